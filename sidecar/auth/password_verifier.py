"""Whether an account and a password belong together, at a bounded cost.

Argon2id takes some 20 ms of a core on purpose. Only so many are hashed at a time
(``auth.hash_pool``), so that a flood of sign-ins does not slow requests with tokens; the same
question asked at the same time is answered once; and a right answer is remembered for a while.

Who waits is taken by what is known of it. First come those against whom no failure counts, one for
each client, in their order, so that a flood of guesses does not stand in the way of an honest
sign-in; what else a client has waiting counts like failures. Of the others the one who has failed
most often comes first: so guessers are banned one after another, and not all of them just not. When
there is no room, who would come last is told so.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import Final, Protocol

from sidecar.auth.hash_pool import Verify
from sidecar.core.errors import Overloaded
from sidecar.core.passwords import PasswordProof, decoy_for
from sidecar.core.policy import Account

_REMEMBERED: Final = 10_000
_REMEMBERED_SECONDS: Final = 300.0


class Asker(Protocol):
    """Who wants to know of a password, and is told once: at once, or when it was checked.

    ``client`` is the address that it comes from.
    """

    client: str

    def failures(self) -> int:
        """Return how many failures count against it by now."""

    def may_go_on(self) -> bool:
        """Tell whether it may still be told."""

    def settle(self, is_right: bool | None) -> None:
        """Take the answer; ``None``: nobody who asked this ``may_go_on``."""

    def fail(self, error: BaseException | None) -> None:
        """Take notice that it can't be known; ``None``: as nothing is checked any more."""


class _Question:
    """Is this the password of this hash?"""

    __slots__ = ("askers", "digest", "failures", "hashing", "password", "phc", "stands_for_account")

    def __init__(
        self, digest: bytes, password: str, phc: str, stands_for_account: bool, asker: Asker
    ) -> None:
        self.digest = digest
        self.password = password
        self.phc = phc
        self.stands_for_account = stands_for_account
        self.askers: list[Asker] = [asker]
        self.failures = 0
        """How many counted against who asks, with what its client had waiting before, lately."""
        self.hashing: asyncio.Future[bool] | None = None

    def __repr__(self) -> str:
        return f"<_Question of {len(self.askers)}>"

    def count_failures(self) -> int:
        """Return how many count against who asks by now; of several, who has least."""
        return min([asker.failures() for asker in self.askers])

    def may_be_answered(self) -> bool:
        return any(asker.may_go_on() for asker in self.askers)


class SignIn:
    """Checks passwords against the accounts of the configuration, ``lanes`` at a time.

    What is remembered is a keyed digest of account, password and hash, each framed by its length:
    no two pairs share one, a new hash in the configuration forgets the old password, and no secret
    is kept. Of questions, ``room`` are kept, of those who have failed before ``room_for_suspects``.
    """

    def __init__(
        self,
        verify: Verify,
        lanes: int = 1,
        *,
        now: Callable[[], float] = monotonic,
        room: int = 128,
        room_for_suspects: int = 32,
        remembered: int = _REMEMBERED,
        make_decoy: Callable[[Iterable[str]], str] = decoy_for,
    ) -> None:
        self._verify = verify
        self._lanes = lanes
        self._now = now
        self._room = room
        self._room_for_suspects = room_for_suspects
        self._most_remembered = remembered
        self._make_decoy = make_decoy
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, PasswordProof] = OrderedDict()
        self._asked: dict[bytes, _Question] = {}
        self._waiting: list[_Question] = []
        self._decoy_accounts: Mapping[str, Account] | None = None
        self._decoy = ""

    def __repr__(self) -> str:
        return f"<SignIn known={len(self._known)} asked={len(self._asked)}>"

    def recall(
        self, account: Account, password: str, proof: PasswordProof | None = None
    ) -> PasswordProof | None:
        """Return, at once, the proof that this pair was found right lately; ``None``: ask.

        ``proof`` is what was returned for this pair before: then nothing has to be digested.
        """
        phc = account.password_hash
        if phc is None:
            return None
        if proof is None or proof.phc != phc or proof.until <= self._now():
            return self._proof_of(self._digest(account.name, password, phc))
        return proof

    def ask(self, accounts: Mapping[str, Account], name: str, password: str, asker: Asker) -> None:
        """Have the asker told whether the account exists and the password is its own.

        An unknown account costs the same work as a wrong password. Raises ``Overloaded`` when too
        many wait already.
        """
        account = accounts.get(name)
        stored = account.password_hash if account is not None else None
        phc = stored or self._decoy_for(accounts)
        digest = self._digest(name, password, phc)
        if self._proof_of(digest) is not None:
            asker.settle(True)
            return
        question = self._asked.get(digest)
        if question is not None:
            question.askers.append(asker)
            return
        failures = asker.failures()
        room = self._room_for_suspects if failures else self._room
        waits = [one for one in self._waiting if one.askers[0].client == asker.client]
        self._make_room(room, failures + len(waits))
        question = _Question(digest, password, phc, stored is not None, asker)
        question.failures = failures + len(waits)
        self._asked[digest] = question
        self._waiting.append(question)
        self._go_on()

    def close(self) -> None:
        """Drop what waits and what is being hashed."""
        self._lanes = 0
        while self._waiting:
            self._fail(self._waiting.pop(), None)
        for question in self._asked.values():
            if question.hashing is not None:
                question.hashing.cancel()

    # Who waits.

    def _make_room(self, room: int, failures: int) -> None:
        """Let a newcomer in, for one who would be taken later if need be; else ``Overloaded``."""
        waiting = self._waiting
        if len(waiting) < room:
            return
        last, least = None, failures or _NONE
        for question in waiting:
            theirs = question.failures
            if 0 < theirs < least or (last is not None and theirs == least):
                last, least = question, theirs
        if last is None:
            raise _overloaded()
        waiting.remove(last)
        self._fail(last, _overloaded())

    def _take(self) -> _Question:
        """Take who is to be asked about next out of those who wait."""
        clean, chosen, most = None, None, -1
        before: dict[str, int] = {}
        for question in self._waiting:
            client = question.askers[0].client
            ahead = before.get(client, 0)
            before[client] = ahead + 1
            failures = question.failures = question.count_failures() + ahead
            if failures == 0:
                clean = clean or question
            elif failures > most:
                chosen, most = question, failures
        taken = clean or chosen
        assert taken is not None
        self._waiting.remove(taken)
        return taken

    def _go_on(self) -> None:
        """Hash what waits and may still be answered, as far as there are lanes."""
        while self._lanes > 0 and self._waiting:
            question = self._take()
            if not question.may_be_answered():
                self._settle(question, None)
                continue
            self._lanes -= 1
            hashing = asyncio.ensure_future(self._verify(question.password, question.phc))
            question.hashing = hashing
            hashing.add_done_callback(partial(self._finish, question))

    def _finish(self, question: _Question, hashing: asyncio.Future[bool]) -> None:
        self._lanes += 1
        if hashing.cancelled():
            self._fail(question, None)
        elif (error := hashing.exception()) is not None:
            self._fail(question, error)
        else:
            self._settle(question, hashing.result())
        self._go_on()

    def _settle(self, question: _Question, is_right: bool | None) -> None:
        del self._asked[question.digest]
        if is_right:
            is_right = question.stands_for_account
            if is_right:
                self._remember(question)
        for asker in question.askers:
            asker.settle(is_right)

    def _fail(self, question: _Question, error: BaseException | None) -> None:
        del self._asked[question.digest]
        for asker in question.askers:
            asker.fail(error)

    # What is remembered.

    def _proof_of(self, digest: bytes) -> PasswordProof | None:
        proof = self._known.get(digest)
        return proof if proof is not None and proof.until > self._now() else None

    def _remember(self, question: _Question) -> None:
        known, digest = self._known, question.digest
        known[digest] = PasswordProof(question.phc, self._now() + _REMEMBERED_SECONDS)
        known.move_to_end(digest)
        if len(known) > self._most_remembered:
            known.popitem(last=False)

    def _decoy_for(self, accounts: Mapping[str, Account]) -> str:
        """Return a hash that no password matches, as costly as the accounts' own; made once per
        mapping.
        """
        if self._decoy_accounts is not accounts:
            hashes = [one.password_hash for one in accounts.values() if one.password_hash]
            self._decoy_accounts, self._decoy = accounts, self._make_decoy(hashes)
        return self._decoy

    def _digest(self, account: str, password: str, phc: str) -> bytes:
        name = account.encode("utf-8", "surrogatepass")
        secret = password.encode("utf-8", "surrogatepass")
        framed = b"%d:%b%d:%b%b" % (len(name), name, len(secret), secret, phc.encode())
        return blake2b(framed, key=self._key, digest_size=32).digest()


_NONE: Final = 1 << 30  # failures that nobody has


def _overloaded() -> Overloaded:
    return Overloaded("too many sign-ins wait to be checked")
