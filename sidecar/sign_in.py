"""Whether an account and a password belong together, at a bounded cost.

Argon2id takes some 20 ms of a core on purpose. It runs in a small pool of threads of low priority,
so that a flood of sign-ins does not slow requests with tokens; the queue before the pool is
bounded; the same question asked at the same time is answered once; and a right answer is
remembered for a while.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from time import monotonic
from typing import Final

from sidecar.core.errors import Overloaded
from sidecar.core.passwords import decoy_for, verify
from sidecar.core.policy import Account

_REMEMBERED: Final = 10_000
_REMEMBERED_SECONDS: Final = 300.0
_QUEUE: Final = 128
_NICENESS: Final = 10


class SignIn:
    """Checks passwords against the accounts of the configuration.

    What is remembered is a keyed digest of account, password and hash, each framed by its length:
    no two pairs share one, a new hash in the configuration forgets the old password, and no secret
    is kept.
    """

    def __init__(self, *, threads: int | None = None, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._decoys: dict[int, tuple[object, str]] = {}
        self._pool = ThreadPoolExecutor(
            threads or max(1, (os.cpu_count() or 1) // 2), "sign-in", initializer=_lower_priority
        )

    def __repr__(self) -> str:
        return f"<SignIn known={len(self._known)} running={len(self._running)}>"

    def is_known(self, account: Account, password: str) -> bool:
        """Tell, at once, whether this pair was found right lately."""
        if account.password_hash is None:
            return False
        digest = self._digest(account.name, password, account.password_hash)
        until = self._known.get(digest)
        return until is not None and until > self._now()

    async def check(self, accounts: Mapping[str, Account], name: str, password: str) -> bool:
        """Tell whether the account exists and the password is its own.

        An unknown account costs the same work as a wrong password. Raises ``Overloaded`` when too
        many checks wait already.
        """
        account = accounts.get(name)
        if account is not None and self.is_known(account, password):
            return True
        stored = account.password_hash if account is not None else None
        phc = stored or self._decoy(accounts)
        digest = self._digest(name, password, phc)
        running = self._running.get(digest)
        if running is None:
            running = self._begin(digest, password, phc)
        is_right = await asyncio.shield(running) and stored is not None
        if is_right:
            self._remember(digest)
        return is_right

    def close(self) -> None:
        """Stop the threads; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, digest: bytes, password: str, phc: str) -> asyncio.Future[bool]:
        if len(self._running) >= _QUEUE:
            raise Overloaded("too many sign-ins wait to be checked")
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, verify, password, phc)
        self._running[digest] = running
        running.add_done_callback(lambda _: self._running.pop(digest, None))
        return running

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
        framed = blake2b(key=self._key, digest_size=32)
        for part in (account, password, phc):
            encoded = part.encode("utf-8", "surrogatepass")
            framed.update(len(encoded).to_bytes(4, "big"))
            framed.update(encoded)
        return framed.digest()


def _lower_priority() -> None:
    """Let the event loop's thread go first (on Linux a nice value belongs to a thread)."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    except OSError:
        return
