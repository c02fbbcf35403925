"""Checks an account's password at a bounded cost.

Argon2id takes some 20 ms of a core on purpose. Three measures bound that cost: a limited number of
passwords are hashed at a time (``auth.hash_pool``), so a flood of sign-ins does not slow down
requests with tokens; attempts with the same account and password share one verification; and a
right password is remembered for a while.

Waiting verifications are ordered by the failures that count against their clients. Clients without
failures go first, one password each, in order of arrival, so a flood of guesses does not block an
honest sign-in. Each further password that a client has waiting counts as a failure. After them, the
client with the most failures goes first: guessers reach their ban one after another, instead of all
staying just below it. When the queue is full, the verification that would run last is refused.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import Final, Protocol

from sidecar.auth.hash_pool import Verify
from sidecar.core.errors import Overloaded
from sidecar.core.passwords import PasswordProof, decoys_for
from sidecar.core.policy import Account

_REMEMBERED: Final = 10_000
_REMEMBERED_SECONDS: Final = 300.0


class PasswordAttempt(Protocol):
    """One client's attempt to sign in; it is settled or failed exactly once.

    ``client`` is the address that it comes from.
    """

    client: str

    def failures(self) -> int:
        """Return how many failures count against the client now."""

    def is_allowed(self) -> bool:
        """Tell whether the client may still learn the verdict: no ban stops it."""

    def settle(self, is_right: bool | None) -> None:
        """Take the verdict; ``None``: not checked, as no attempt waiting for it ``is_allowed``."""

    def fail(self, error: BaseException | None) -> None:
        """Learn that there will be no verdict; ``None``: the verifier was closed."""


class _Verification:
    """Whether a password is the one of a hash, and the attempts that wait for the verdict."""

    __slots__ = (
        "attempts",
        "digest",
        "failures",
        "hashing",
        "password",
        "phc",
        "stands_for_account",
    )

    def __init__(
        self,
        digest: bytes,
        password: str,
        phc: str,
        stands_for_account: bool,
        attempt: PasswordAttempt,
    ) -> None:
        self.digest = digest
        self.password = password
        self.phc = phc
        self.stands_for_account = stands_for_account
        self.attempts: list[PasswordAttempt] = [attempt]
        self.failures = 0
        """As last counted: those of the client, plus what it had waiting ahead of this."""
        self.hashing: asyncio.Future[bool] | None = None

    def __repr__(self) -> str:
        return f"<_Verification of {len(self.attempts)}>"

    def count_failures(self) -> int:
        """Return the failures that count now; of several attempts, those of the best client."""
        return min([attempt.failures() for attempt in self.attempts])

    def is_allowed(self) -> bool:
        return any(attempt.is_allowed() for attempt in self.attempts)


class PasswordVerifier:
    """Checks passwords against the accounts of the configuration, ``lanes`` at a time.

    Right passwords are remembered as keyed digests of account, password and hash, each framed by
    its length: no two pairs share a digest, a new hash in the configuration forgets the old
    password, and no secret is kept. At most ``room`` verifications wait, but a client with failures
    is refused once ``room_for_suspects`` wait.
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
        make_decoys: Callable[[Sequence[str]], Callable[[str], str]] = decoys_for,
    ) -> None:
        self._verify = verify
        self._lanes = lanes
        self._now = now
        self._room = room
        self._room_for_suspects = room_for_suspects
        self._most_remembered = remembered
        self._make_decoys = make_decoys
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, PasswordProof] = OrderedDict()
        self._by_digest: dict[bytes, _Verification] = {}
        self._waiting: list[_Verification] = []
        self._decoy_accounts: Mapping[str, Account] | None = None
        self._decoy_of = make_decoys(())

    def __repr__(self) -> str:
        return f"<PasswordVerifier known={len(self._known)} pending={len(self._by_digest)}>"

    def cached_proof(
        self, account: Account, password: str, proof: PasswordProof | None = None
    ) -> PasswordProof | None:
        """Return the proof that this pair was found right lately; ``None``: ``submit`` it.

        ``proof`` is what an earlier call returned for this pair; while it is good, no digest has to
        be computed.
        """
        phc = account.password_hash
        if phc is None:
            return None
        if proof is None or proof.phc != phc or proof.until <= self._now():
            return self._proof_of(self._digest(account.name, password, phc))
        return proof

    def submit(
        self, accounts: Mapping[str, Account], name: str, password: str, attempt: PasswordAttempt
    ) -> None:
        """Settle ``attempt``, now or later: is this the password of an account that exists?

        An unknown account costs the same work as a wrong password. Raises ``Overloaded`` when too
        many verifications wait.
        """
        account = accounts.get(name)
        stored = account.password_hash if account is not None else None
        phc = stored or self._decoy_for(accounts, name)
        digest = self._digest(name, password, phc)
        if self._proof_of(digest) is not None:
            attempt.settle(True)
            return
        verification = self._by_digest.get(digest)
        if verification is not None:
            verification.attempts.append(attempt)
            return
        failures = attempt.failures()
        room = self._room_for_suspects if failures else self._room
        waits = [one for one in self._waiting if one.attempts[0].client == attempt.client]
        self._make_room(room, failures + len(waits))
        verification = _Verification(digest, password, phc, stored is not None, attempt)
        verification.failures = failures + len(waits)
        self._by_digest[digest] = verification
        self._waiting.append(verification)
        self._start_next()

    def close(self) -> None:
        """Cancel every verification, waiting or running."""
        self._lanes = 0
        while self._waiting:
            self._fail(self._waiting.pop(), None)
        for verification in self._by_digest.values():
            if verification.hashing is not None:
                verification.hashing.cancel()

    # The queue.

    def _make_room(self, room: int, failures: int) -> None:
        """Make room for a newcomer: refuse a verification that would run after it, or raise
        ``Overloaded`` if there is none.
        """
        waiting = self._waiting
        if len(waiting) < room:
            return
        last, least = None, failures or _UNBEATABLE
        for verification in waiting:
            theirs = verification.failures
            if 0 < theirs < least or (last is not None and theirs == least):
                last, least = verification, theirs
        if last is None:
            raise _overloaded()
        waiting.remove(last)
        self._fail(last, _overloaded())

    def _take_next(self) -> _Verification:
        """Remove the verification that is to run next from the queue."""
        clean, chosen, most = None, None, -1
        before: dict[str, int] = {}
        for verification in self._waiting:
            client = verification.attempts[0].client
            ahead = before.get(client, 0)
            before[client] = ahead + 1
            failures = verification.failures = verification.count_failures() + ahead
            if failures == 0:
                clean = clean or verification
            elif failures > most:
                chosen, most = verification, failures
        taken = clean or chosen
        assert taken is not None
        self._waiting.remove(taken)
        return taken

    def _start_next(self) -> None:
        """Start waiting verifications while lanes are free; skip those no longer allowed."""
        while self._lanes > 0 and self._waiting:
            verification = self._take_next()
            if not verification.is_allowed():
                self._settle(verification, None)
                continue
            self._lanes -= 1
            hashing = asyncio.ensure_future(self._verify(verification.password, verification.phc))
            verification.hashing = hashing
            hashing.add_done_callback(partial(self._finish, verification))

    def _finish(self, verification: _Verification, hashing: asyncio.Future[bool]) -> None:
        self._lanes += 1
        if hashing.cancelled():
            self._fail(verification, None)
        elif (error := hashing.exception()) is not None:
            self._fail(verification, error)
        else:
            self._settle(verification, hashing.result())
        self._start_next()

    def _settle(self, verification: _Verification, is_right: bool | None) -> None:
        del self._by_digest[verification.digest]
        if is_right:
            is_right = verification.stands_for_account
            if is_right:
                self._remember(verification)
        for attempt in verification.attempts:
            attempt.settle(is_right)

    def _fail(self, verification: _Verification, error: BaseException | None) -> None:
        del self._by_digest[verification.digest]
        for attempt in verification.attempts:
            attempt.fail(error)

    # Remembered passwords.

    def _proof_of(self, digest: bytes) -> PasswordProof | None:
        proof = self._known.get(digest)
        return proof if proof is not None and proof.until > self._now() else None

    def _remember(self, verification: _Verification) -> None:
        known, digest = self._known, verification.digest
        known[digest] = PasswordProof(verification.phc, self._now() + _REMEMBERED_SECONDS)
        known.move_to_end(digest)
        if len(known) > self._most_remembered:
            known.popitem(last=False)

    def _decoy_for(self, accounts: Mapping[str, Account], name: str) -> str:
        """Return a hash that no password matches, as costly as that of an account.

        The decoys are made once for each configuration.
        """
        if self._decoy_accounts is not accounts:
            hashes = [one.password_hash for one in accounts.values() if one.password_hash]
            self._decoy_accounts, self._decoy_of = accounts, self._make_decoys(hashes)
        return self._decoy_of(name)

    def _digest(self, account: str, password: str, phc: str) -> bytes:
        name = account.encode("utf-8", "surrogatepass")
        secret = password.encode("utf-8", "surrogatepass")
        framed = b"%d:%b%d:%b%b" % (len(name), name, len(secret), secret, phc.encode())
        return blake2b(framed, key=self._key, digest_size=32).digest()


_UNBEATABLE: Final = 1 << 30  # more failures than anybody has


def _overloaded() -> Overloaded:
    return Overloaded("too many sign-ins are waiting to be checked")
