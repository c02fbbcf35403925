"""Whether an account and a password belong together, at a bounded cost.

Argon2id takes some 20 ms of a core on purpose. Only so many are hashed at a time (``hashing``), so
that a flood of sign-ins does not slow requests with tokens; the queue is bounded, and whoever waits
there may be turned away before its turn comes; the same question asked at the same time is answered
once; and a right answer is remembered for a while.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import Final

from sidecar.core.errors import Overloaded
from sidecar.core.passwords import decoy_for
from sidecar.core.policy import Account
from sidecar.hashing import Verify

_REMEMBERED: Final = 10_000
_REMEMBERED_SECONDS: Final = 300.0
_QUEUE: Final = 128


@dataclass(slots=True)
class _Question:
    """Is this the password of this hash? ``answer`` is ``None`` if nobody may know any more."""

    digest: bytes
    password: str = field(repr=False)
    phc: str = field(repr=False)
    answer: asyncio.Future[bool | None]
    askers: list[Callable[[], bool]] = field(default_factory=list)
    hashing: asyncio.Task[bool] | None = None


class SignIn:
    """Checks passwords against the accounts of the configuration, ``lanes`` at a time.

    What is remembered is a keyed digest of account, password and hash, each framed by its length:
    no two pairs share one, a new hash in the configuration forgets the old password, and no secret
    is kept.
    """

    def __init__(
        self, verify: Verify, lanes: int = 1, *, now: Callable[[], float] = monotonic
    ) -> None:
        self._verify = verify
        self._lanes = lanes
        self._now = now
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._asked: dict[bytes, _Question] = {}
        self._waiting: deque[_Question] = deque()
        self._decoys: dict[int, tuple[object, str]] = {}

    def __repr__(self) -> str:
        return f"<SignIn known={len(self._known)} asked={len(self._asked)}>"

    def is_known(self, account: Account, password: str) -> bool:
        """Tell, at once, whether this pair was found right lately."""
        if account.password_hash is None:
            return False
        digest = self._digest(account.name, password, account.password_hash)
        until = self._known.get(digest)
        return until is not None and until > self._now()

    async def check(
        self,
        accounts: Mapping[str, Account],
        name: str,
        password: str,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> bool | None:
        """Tell whether the account exists and the password is its own.

        An unknown account costs the same work as a wrong password. ``may_go_on`` is asked when the
        turn comes, and ``None`` is the answer if no asker may any more. Raises ``Overloaded`` when
        too many wait already.
        """
        account = accounts.get(name)
        if account is not None and self.is_known(account, password):
            return True
        stored = account.password_hash if account is not None else None
        phc = stored or self._decoy(accounts)
        digest = self._digest(name, password, phc)
        question = self._asked.get(digest) or self._queue(digest, password, phc)
        question.askers.append(may_go_on)
        self._go_on()
        is_right = await asyncio.shield(question.answer)
        if is_right and stored is not None:
            self._remember(digest)
        return is_right and stored is not None

    def close(self) -> None:
        """Drop what waits and what is being hashed."""
        while self._waiting:
            self._waiting.popleft().answer.cancel()
        for question in self._asked.values():
            if question.hashing is not None:
                question.hashing.cancel()

    def _queue(self, digest: bytes, password: str, phc: str) -> _Question:
        if len(self._asked) >= _QUEUE:
            raise Overloaded("too many sign-ins wait to be checked")
        answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        question = self._asked[digest] = _Question(digest, password, phc, answer)
        self._waiting.append(question)
        return question

    def _go_on(self) -> None:
        """Hash what waits and may still be answered, as far as there are lanes."""
        while self._lanes and self._waiting:
            question = self._waiting.popleft()
            if not any(may_go_on() for may_go_on in question.askers):
                del self._asked[question.digest]
                question.answer.set_result(None)
                continue
            self._lanes -= 1
            question.hashing = asyncio.create_task(self._verify(question.password, question.phc))
            question.hashing.add_done_callback(partial(self._finish, question))

    def _finish(self, question: _Question, hashing: asyncio.Task[bool]) -> None:
        self._lanes += 1
        del self._asked[question.digest]
        if hashing.cancelled():
            question.answer.cancel()
        elif (error := hashing.exception()) is not None:
            question.answer.set_exception(error)
        else:
            question.answer.set_result(hashing.result())
        self._go_on()

    def _remember(self, digest: bytes) -> None:
        known = self._known
        known[digest] = self._now() + _REMEMBERED_SECONDS
        known.move_to_end(digest)
        if len(known) > _REMEMBERED:
            known.popitem(last=False)

    def _decoy(self, accounts: Mapping[str, Account]) -> str:
        """Return a hash that no password matches, as costly as the accounts' own; made once per
        mapping.
        """
        kept = self._decoys.get(0)
        if kept is None or kept[0] is not accounts:
            hashes = [one.password_hash for one in accounts.values() if one.password_hash]
            kept = self._decoys[0] = (accounts, decoy_for(hashes))
        return kept[1]

    def _digest(self, account: str, password: str, phc: str) -> bytes:
        name, secret = (text.encode("utf-8", "surrogatepass") for text in (account, password))
        framed = b"%d:%b%d:%b%b" % (len(name), name, len(secret), secret, phc.encode())
        return blake2b(framed, key=self._key, digest_size=32).digest()
