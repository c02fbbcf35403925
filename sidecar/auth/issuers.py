"""Keeps the keys of foreign issuers fresh, and says what an unreachable issuer means.

Keys are fetched in the background, so a token signed with a known key never waits. Only a token
with an unknown ``kid`` waits for a fetch, and the number of such fetches a minute is limited.

An unknown ``kid`` is refused (401) if a key set requested after the token arrived lacks it. That
verdict holds for ``unknown_key_seconds``. Every other case is "I don't know"
(``IssuerUnavailable``, 503), never "no": the issuer is unreachable, or the fetches of this minute
are spent, perhaps by an attacker who makes ``kid``s up. Each fetch serves all callers, so a newly
published key becomes known within that time.

A signature that matches no key of its ``kid`` is refused without a fetch. If an issuer
replaces a key under the same ``kid``, or under none, the next refresh picks it up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sidecar.auth.bounded_get import get
from sidecar.core.authority import check_web_url
from sidecar.core.errors import Fault
from sidecar.core.key_documents import MAX_SET_BYTES, LoadedKeys, SkippedKey, load_key_set
from sidecar.core.keys import Key, KeyRing, check_algorithms
from sidecar.core.model import Denial
from sidecar.core.os_errors import reason_of
from sidecar.core.signed_tokens import KeySource, NeedsKeys, SignedTokens, VerifiedToken
from sidecar.core.unclaimed_jwts import UnclaimedJwt
from sidecar.outgoing.connector import Connector

log = logging.getLogger(__name__)

_MOST_TOLD = 16
"""How many keys that are not used one line of the log names."""


class IssuerUnavailable(Fault):
    """A foreign issuer's keys are unavailable, so its token can't be judged: 503."""

    code = "store_unavailable"
    source = "issuer"


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What fetching a key set may cost, and how long its keys are trusted."""

    timeout_seconds: float = 2.0
    max_bytes: int = MAX_SET_BYTES
    refresh_seconds: float = 300.0
    keep_seconds: float = 3600.0
    """How long after the last good fetch keys still verify while the issuer is away."""
    retry_seconds: float = 5.0
    unknown_key_seconds: float = 15.0
    """The time between fetches for unknown ``kid``s, and how long one stays known as missing."""
    unknown_key_fetches: int = 8
    """How many of these fetches may follow each other at once, after a pause."""
    most_unknown_keys: int = 256
    """How many ``kid``s are remembered as missing from the issuer's set."""
    file_poll_seconds: float = 1.0


class IssuerKeys(KeySource, Protocol):
    """A source of keys that can be asked to look again."""

    async def seek(self, key_id: str | None) -> None:
        """Return once it is known whether the issuer has a key that ``find`` did not return.

        Raises ``IssuerUnavailable`` if that can't be known.
        """

    async def keep_fresh(self) -> None:
        """Refresh until cancelled; raises nothing else."""


class Issuers:
    """Verifies JWTs, fetching foreign keys as needed. Start it in the loop; close it once."""

    def __init__(self, tokens: SignedTokens, sources: Mapping[str, IssuerKeys]) -> None:
        self._tokens = tokens
        self._sources = dict(sources)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def sources(self) -> Mapping[str, IssuerKeys]:
        """The key sources by issuer; a reload keeps those of unchanged issuers."""
        return self._sources

    def start(self) -> None:
        """Start to fetch and refresh keys in the background; return at once."""
        self._tasks = [asyncio.create_task(s.keep_fresh()) for s in self._sources.values()]

    async def close(self) -> None:
        """Stop refreshing; idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def verify(self, token: str, now: float) -> VerifiedToken | UnclaimedJwt | Denial:
        """Verify ``token`` at ``now`` (Unix seconds), seeking an unknown key once.

        Raises ``IssuerUnavailable`` if the token can't be judged.
        """
        verdict = self._tokens.verify_now(token, now)
        if not isinstance(verdict, NeedsKeys):
            return verdict
        await self._sources[verdict.issuer].seek(verdict.key_id)
        verdict = self._tokens.verify_now(token, now)
        if isinstance(verdict, NeedsKeys):
            return Denial("invalid_token", "The token's signing key is unknown.")
        return verdict


class FetchedKeys:
    """An issuer's keys from its JWKS URL: bounded, cached, one fetch at a time.

    Raises ``ValueError`` for a URL that is neither http nor https, for algorithms that can't be
    combined, and for one that needs a shared secret.
    """

    def __init__(
        self,
        issuer: str,
        url: str,
        algorithms: tuple[str, ...],
        limits: FetchLimits = FetchLimits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_web_url(url)
        check_algorithms(algorithms, is_local=False)
        self.origin = (issuer, url, algorithms)
        """What it was made for: on a reload, an unchanged issuer keeps its source and keys."""
        self._issuer = issuer
        self._url = url
        self._algorithms = algorithms
        self._limits = limits
        self._clock = clock
        self._connector = Connector()
        self._ring = KeyRing(())
        self._fetched_at = self._tried_at = float("-inf")
        self._fetch_budget = _FetchBudget(limits.unknown_key_fetches, limits.unknown_key_seconds)
        self._begun = self._answered = 0
        """How many fetches have begun, and the number of the last one that succeeded."""
        self._asked: set[str | None] = set()
        """Unknown ``kid``s that tokens have named since the last fetch began."""
        self._absent: dict[str | None, float] = {}
        """``kid``s that the issuer's set lacked, and when the last fetch to show that began."""
        self._problem: str | None = None
        """Why the last fetch failed; logged when it changes."""
        self._skipped = _SkippedKeys(issuer)
        self._fetch: asyncio.Task[None] | None = None

    def find(self, key_id: str | None) -> Sequence[Key]:
        """Return the keys, unless the set is too old to be trusted."""
        return self._ring.find(key_id) if self._is_believed() else ()

    def find_unnamed(self) -> Sequence[Key]:
        """Return the keys without a ``kid``, unless the set is too old to be trusted."""
        return self._ring.find_unnamed() if self._is_believed() else ()

    async def seek(self, key_id: str | None) -> None:
        """Fetch the key set if the budget allows it; see ``IssuerKeys.seek``.

        Waits for two fetches at most, so twice ``timeout_seconds``: one that had begun before, as
        its response may be older than the key, and one more.
        """
        begun = self._begun
        if key_id in self._absent or len(self._asked) < self._limits.most_unknown_keys:
            self._asked.add(key_id)
        if self._is_refused(key_id):
            return
        if self._fetch is not None:
            await self._refresh()
            if self._has_failed:
                raise self._unavailable()
        if not self._is_settled(key_id, begun) and (self._fetch is not None or self._take_turn()):
            await self._refresh()
        if not self._is_settled(key_id, begun):
            raise self._unavailable()

    def _is_refused(self, key_id: str | None) -> bool:
        """Tell whether a recent fetch has shown that the issuer lacks this ``kid``."""
        absent_at = self._absent.get(key_id)
        return absent_at is not None and self._is_recent(absent_at)

    def _is_recent(self, at: float) -> bool:
        return self._clock() - at < self._limits.unknown_key_seconds

    def _note_absent(self, asked: set[str | None], began_at: float) -> None:
        """Remember which ``kid``s the fetched set lacks, and forget old entries.

        Entries that exist already come first, so made-up ``kid``s can't evict those in use.
        """
        before = {
            key_id: began_at if key_id in asked else absent_at
            for key_id, absent_at in self._absent.items()
            if key_id in asked or self._is_recent(absent_at)
        }
        absent = before | dict.fromkeys(asked - before.keys(), began_at)
        missing = [item for item in absent.items() if not self._ring.find(item[0])]
        self._absent = dict(missing[: self._limits.most_unknown_keys])

    def _is_settled(self, key_id: str | None, begun: int) -> bool:
        """Tell whether the key is known, or missing from a set requested after fetch ``begun``."""
        return bool(self.find(key_id)) or self._answered > begun

    def _unavailable(self) -> IssuerUnavailable:
        if self._has_failed or not self._is_believed():
            return IssuerUnavailable(f"the keys of issuer {self._issuer!r} are unavailable")
        return IssuerUnavailable(
            f"issuer {self._issuer!r} may have published a new key, but its keys were fetched for"
            " unknown ones too often to look again now"
        )

    @property
    def _has_failed(self) -> bool:
        return self._problem is not None

    async def keep_fresh(self) -> None:
        """Fetch now, then every ``refresh_seconds``, or sooner after a failure.

        When cancelled, it first lets a running fetch end (within ``timeout_seconds``), as callers
        wait for it.
        """
        try:
            while True:
                await self._refresh()
                await asyncio.sleep(self._pause_seconds())
        finally:
            if self._fetch is not None:
                await asyncio.wait({self._fetch})

    def _pause_seconds(self) -> float:
        return self._limits.retry_seconds if self._has_failed else self._limits.refresh_seconds

    def _is_believed(self) -> bool:
        return self._clock() - self._fetched_at < self._limits.keep_seconds

    def _take_turn(self) -> bool:
        """Tell whether a fetch for an unknown ``kid`` may begin, and take it from the budget."""
        now = self._clock()
        if not self._is_believed():
            return now - self._tried_at >= self._limits.retry_seconds
        return self._fetch_budget.take(now)

    async def _refresh(self) -> None:
        """Join the running fetch, or begin one. A caller that leaves does not cancel it."""
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._replace())
            self._fetch.add_done_callback(self._forget)
        await asyncio.shield(self._fetch)

    def _forget(self, _fetch: asyncio.Task[None]) -> None:
        self._fetch = None

    async def _replace(self) -> None:
        began_at = self._tried_at = self._clock()
        self._begun += 1
        asked, self._asked = self._asked, set()
        try:
            document = await get(
                self._url,
                timeout_seconds=self._limits.timeout_seconds,
                max_bytes=self._limits.max_bytes,
                connector=self._connector,
            )
            loaded = load_key_set(document, self._algorithms, is_local=False)
            self._ring = KeyRing(loaded.keys)
        except Exception as error:  # whatever a foreign server provokes, the result is no keys
            self._note_failure(error)
            return
        if self._has_failed:
            log.info("the keys of issuer %r are available again", self._issuer)
        self._fetched_at = self._clock()
        self._answered = self._begun
        self._note_absent(asked, began_at)
        self._problem = None
        self._skipped.tell(loaded.skipped)

    def _note_failure(self, error: Exception) -> None:
        problem = describe_failure(error)
        if problem != self._problem:
            log.warning("the keys of issuer %r can't be fetched: %s", self._issuer, problem)
        self._problem = problem


class _FetchBudget:
    """Limits fetches: ``most`` of them at once, then one every ``seconds``."""

    def __init__(self, most: int, seconds: float) -> None:
        self._ahead_seconds = (most - 1) * seconds
        self._seconds = seconds
        self._spent_until = float("-inf")

    def take(self, now: float) -> bool:
        """Take one fetch from the budget, if any is left; ``now`` is in seconds on any clock."""
        if self._spent_until - now > self._ahead_seconds:
            return False
        self._spent_until = max(self._spent_until, now) + self._seconds
        return True


class FileKeys:
    """An issuer's keys from a JWKS file, read again when the file changes.

    If the changed file can't be read, the old keys stay in force and the problem is logged. The
    constructor raises ``ValueError`` if the file can't be read.
    """

    def __init__(
        self,
        issuer: str,
        path: Path,
        algorithms: tuple[str, ...],
        limits: FetchLimits = FetchLimits(),
    ) -> None:
        check_algorithms(algorithms, is_local=True)
        self.origin = (issuer, str(path), algorithms)
        self._issuer = issuer
        self._path = path
        self._algorithms = algorithms
        self._limits = limits
        self._problem: str | None = None
        self._skipped = _SkippedKeys(issuer)
        try:
            self._stamp = self._read_stamp()
            self._loaded = self._read()
            self._ring = KeyRing(self._loaded.keys)
        except OSError as error:
            raise ValueError(f"{path}: {reason_of(error)}") from None

    def find(self, key_id: str | None) -> Sequence[Key]:
        """Return the keys as the file last had them."""
        return self._ring.find(key_id)

    def find_unnamed(self) -> Sequence[Key]:
        """Return the keys without a ``kid`` as the file last had them."""
        return self._ring.find_unnamed()

    async def seek(self, key_id: str | None) -> None:
        """Read the file again if it has changed."""
        self._read_change()

    async def keep_fresh(self) -> None:
        """Look for a change every ``file_poll_seconds``."""
        self._skipped.tell(self._loaded.skipped)  # not sooner: a reload may have no use for it
        while True:
            await asyncio.sleep(self._limits.file_poll_seconds)
            self._read_change()

    def _read_change(self) -> None:
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._loaded = self._read()
        except OSError as error:
            self._note_problem(f"{self._path}: {reason_of(error)}")
        except ValueError as error:
            self._note_problem(str(error))
        else:
            self._problem = None
            self._ring = KeyRing(self._loaded.keys)
            log.info("the new keys of issuer %r are in force", self._issuer)
            self._skipped.tell(self._loaded.skipped)

    def _note_problem(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("the old keys of issuer %r stay in force: %s", self._issuer, problem)
        self._problem = problem

    def _read_stamp(self) -> tuple[int, ...]:
        status = os.stat(self._path)
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    def _read(self) -> LoadedKeys:
        with self._path.open("rb") as file:
            document = file.read(self._limits.max_bytes + 1)
        if len(document) > self._limits.max_bytes:
            raise ValueError(f"{self._path}: more than {self._limits.max_bytes} bytes")
        try:
            return load_key_set(document, self._algorithms, is_local=True)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None


class _SkippedKeys:
    """Logs which keys of an issuer's set are not used, once for each set."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._told: tuple[SkippedKey, ...] = ()

    def tell(self, skipped: tuple[SkippedKey, ...]) -> None:
        """Log them in one line, unless they are the same as last time."""
        if skipped and skipped != self._told:
            # A sound key of another kind is normal; identity providers publish them.
            level = logging.WARNING if any(key.is_odd for key in skipped) else logging.INFO
            listed = "; ".join(map(str, skipped[:_MOST_TOLD]))
            if len(skipped) > _MOST_TOLD:
                listed += f"; and {len(skipped) - _MOST_TOLD} more"
            log.log(level, "keys of issuer %r are skipped: %s", self._issuer, listed)
        self._told = skipped


def describe_failure(error: Exception) -> str:
    """Say why a key set can't be had, in words of ours or of the system, never the server's."""
    if isinstance(error, ValueError):
        return str(error)
    return reason_of(error) if isinstance(error, OSError) else type(error).__name__
