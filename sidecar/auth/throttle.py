"""Counts failed credentials, bans those who fail too often, and shares both through Redis.

A failure counts against the network it comes from. A wrong password also counts against the
account it names, whether or not that account exists. After ``failures`` within ``window`` the
subject is banned for ``ban``: further bad tokens are answered 429, and so are passwords, unchecked.
Tokens are judged before bans are looked at, so a good token passes whoever is banned. For tokens
that this process does not know, a banned client gets a limited number of store look-ups
(``lookup_rate_limit``).

An attacker can't lock an account's owner out by failing on purpose: a network from which the
account has signed in within the last 30 days is *welcome* for this account. Passwords that come
from there are refused only after as many failures of this account from this network.

Counting is local first, so the failure that reaches the limit is the last one answered 401; the
counts and bans of all processes meet in Redis a moment later. While Redis is away, each process
counts on its own and keeps its bans.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any, Final

from sidecar.auth.lookup_rate_limit import LookupRateLimit
from sidecar.core.errors import StoreUnavailable
from sidecar.core.subjects import network_of, split_subject, subject_of
from sidecar.store.port import MOST_BANS, FailureCounters

LEARN_SECONDS: Final = 1.0
MOST_COUNTED: Final = 10_000
MOST_REPORTED: Final = 50_000
"""How many counts one process sends to Redis in a window; further ones stay in this process."""

_WELCOME_LEARN_SECONDS: Final = 60.0
_WELCOME_NOTED_SECONDS: Final = 3600.0
_GATHER_SECONDS: Final = 0.1

_log = logging.getLogger("sidecar")

OnBan = Callable[[str | None, str | None, float], None]
"""Called once for each ban: its network, the account's name as it was sent, and its seconds."""


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """So many ``failures`` (0: never throttle) within a window lead to a ban of so many seconds."""

    failures: int
    window_seconds: float
    ban_seconds: float


@dataclass(slots=True)
class _Count:
    failures: int
    until: float
    account: str | None


@dataclass(slots=True)
class _Ban:
    until: float
    account: str | None
    is_told: bool = False


class Throttle:
    """Counts failures and holds the bans. ``limits`` may be replaced at any time.

    ``now`` returns Unix seconds. Belongs to one event loop; counts are shared while ``run`` runs.
    """

    def __init__(
        self,
        counters: FailureCounters,
        limits: ThrottleLimits,
        on_ban: OnBan,
        *,
        now: Callable[[], float] = time,
        most_reported: int = MOST_REPORTED,
    ) -> None:
        self.limits = limits
        self._most_reported = most_reported
        self._counters = counters
        self._on_ban = on_ban
        self._now = now
        self._counts: dict[str, _Count] = {}
        self._bans: dict[str, float] = {}
        self._lookup_rate_limit = LookupRateLimit(now)
        self._unsent_counts: dict[str, int] = {}
        self._unsent_bans: dict[str, _Ban] = {}
        self._welcome: dict[str, float] = {}
        self._unsent_welcome: dict[str, float] = {}
        self._signed_in: set[tuple[str, str]] = set()
        self._forget_signed_in_at = self._learn_at = self._learn_welcome_at = 0.0
        self._reported = 0
        self._reported_until = 0.0
        self._news = asyncio.Event()
        self._is_alone = False

    def __repr__(self) -> str:
        state = "alone" if self._is_alone else "shared"
        return f"<Throttle {state} counted={len(self._counts)} banned={len(self._bans)}>"

    @property
    def bans_in_force(self) -> int:
        """Return how many subjects are banned now."""
        now = self._now()
        if not self.limits.failures:
            return 0
        return sum(until > now for until in self._bans.values())

    # On the path.

    def check(self, client: str, account: str | None = None) -> int | None:
        """Return for how many more seconds this is banned; ``None``: it is not.

        Call it without ``account`` for a token that has proved bad, and with ``account`` before
        checking a password.
        """
        return self._find_ban(client, account) if self._bans else None

    def may_look_up(self, client: str, digest: str, is_limited: bool = False) -> bool:
        """Tell whether a token that this process does not know may be looked up in the store.

        ``is_limited``: the limit applies whether or not the client is banned.
        """
        is_banned = bool(self._bans) and self._find_ban(client, None) is not None
        if not is_banned and not (is_limited and self.limits.failures):
            return True
        return self._lookup_rate_limit.may_look_up(network_of(client), digest)

    def failures_of(self, client: str, key: str) -> int:
        """Return how many failures count against a client that signs in to the account of ``key``.

        For a banned client, the number that leads to a ban. If the client is welcome for the
        account, only failures of this account from its network count.
        """
        if not self.limits.failures:
            return 0
        network, now = network_of(client), self._now()
        pair = f"{network}@{key}"
        subject = pair if pair in self._welcome else network
        if self._bans.get(subject, 0.0) > now:
            return self.limits.failures
        count = self._counts.get(subject)
        return count.failures if count is not None and count.until > now else 0

    def note_failure(self, client: str, account: str | None = None) -> None:
        """Count a bad token, or with ``account`` a wrong password for that account."""
        if not self.limits.failures:
            return
        network = network_of(client)
        if network:
            self._count(network, None)
        if account:
            pair = subject_of(network, account)
            self._count(pair if pair in self._welcome else subject_of("", account), account)

    def note_sign_in(self, client: str, account: str) -> None:
        """Note that the client has signed in to the account with its password."""
        if self.limits.failures and (client, account) not in self._signed_in:
            self._make_welcome(client, account)

    def _find_ban(self, client: str, account: str | None) -> int | None:
        if not self.limits.failures:
            return None
        network = network_of(client)
        pair = subject_of(network, account)
        if account and pair in self._welcome:
            until = self._bans.get(pair, 0.0)
        else:
            until = self._bans.get(network, 0.0)
            if account:
                until = max(until, self._bans.get(subject_of("", account), 0.0))
        left = until - self._now()
        return math.ceil(left) if left > 0 else None

    def _count(self, subject: str, account: str | None) -> None:
        now = self._now()
        if self._bans.get(subject, 0.0) > now:
            return
        count = self._counts.get(subject)
        if count is None or count.until <= now:
            self._counts.pop(subject, None)
            _make_room(self._counts, MOST_COUNTED)
            count = self._counts[subject] = _Count(0, now + self.limits.window_seconds, account)
        count.failures += 1
        self._queue_report(subject)
        if count.failures >= self.limits.failures:
            self._ban(subject)

    def _queue_report(self, subject: str) -> None:
        unsent = self._unsent_counts
        if subject in unsent or len(unsent) < MOST_COUNTED:
            unsent[subject] = unsent.get(subject, 0) + 1
            self._news.set()

    def _ban(self, subject: str) -> None:
        count = self._counts.pop(subject, None)
        self._unsent_counts.pop(subject, None)
        for bans in (self._bans, self._unsent_bans):
            _make_room(bans, MOST_BANS)
        until = self._now() + self.limits.ban_seconds
        self._bans[subject] = until
        self._unsent_bans[subject] = _Ban(until, count.account if count is not None else None)
        self._news.set()

    def _make_welcome(self, client: str, account: str) -> None:
        network = network_of(client)
        if not network or not self.limits.failures:
            return
        for pairs in (self._welcome, self._unsent_welcome):
            _make_room(pairs, MOST_BANS)
        pair = subject_of(network, account)
        self._welcome[pair] = self._unsent_welcome[pair] = self._now()
        if len(self._signed_in) >= MOST_COUNTED:
            self._signed_in.clear()
        self._signed_in.add((client, account))
        self._news.set()

    # With Redis.

    async def run(self) -> None:
        """Exchange counts and bans with the other processes until cancelled."""
        while True:
            await self.exchange()
            try:
                async with asyncio.timeout(LEARN_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(LEARN_SECONDS if self._is_alone else _GATHER_SECONDS)

    async def exchange(self) -> None:
        """Send what is new and, every ``LEARN_SECONDS``, read what others have sent."""
        self._news.clear()
        now = self._now()
        is_time_to_learn = now >= self._learn_at
        if is_time_to_learn:
            self._learn_at = now + LEARN_SECONDS
            self._forget_what_has_ended(now)
        if not self.limits.failures:
            return
        try:
            await self._send()
            if is_time_to_learn:
                await self._learn(now)
        except StoreUnavailable as fault:
            self._go_alone(fault)

    async def close(self) -> None:
        """Send what is new a last time, and close the counters."""
        await self.exchange()
        await self._counters.close()

    async def _send(self) -> None:
        counts, self._unsent_counts = self._within_allowance(self._unsent_counts), {}
        if counts:
            found = await self._counters.add(counts, self.limits.window_seconds)
            for subject, failures in found.items():
                self._raise_count(subject, failures)
        await self._send_bans()
        welcome = dict(self._unsent_welcome)
        if welcome:
            await self._counters.welcome(welcome)
            for pair in welcome:
                self._unsent_welcome.pop(pair, None)

    async def _send_bans(self) -> None:
        bans = dict(self._unsent_bans)
        if not bans:
            return
        new = await self._counters.ban({subject: ban.until for subject, ban in bans.items()})
        for subject, ban in bans.items():
            if self._unsent_bans.get(subject) is ban:
                del self._unsent_bans[subject]
            if subject in new:
                self._tell(subject, ban)

    def _tell(self, subject: str, ban: _Ban) -> None:
        if not ban.is_told:
            ban.is_told = True
            network, _ = split_subject(subject)
            self._on_ban(network or None, ban.account, ban.until - self._now())

    def _raise_count(self, subject: str, failures: int) -> None:
        """Adopt the count of all processes together, if it is higher."""
        count = self._counts.get(subject)
        if failures >= self.limits.failures and subject not in self._bans:
            self._ban(subject)
        elif count is not None:
            count.failures = max(count.failures, failures)

    def _within_allowance(self, counts: dict[str, int]) -> dict[str, int]:
        """Drop the counts that would exceed ``most_reported`` in this window."""
        now = self._now()
        if now >= self._reported_until:
            self._reported, self._reported_until = 0, now + self.limits.window_seconds
        room = self._most_reported - self._reported
        if len(counts) > room:
            counts = dict(list(counts.items())[:room])
        self._reported += len(counts)
        return counts

    async def _learn(self, now: float) -> None:
        bans = await self._counters.bans()
        for subject in bans.keys() - self._bans.keys():
            self._counts.pop(subject, None)
        self._bans = {**bans, **{subject: ban.until for subject, ban in self._unsent_bans.items()}}
        if now >= self._learn_welcome_at:
            self._welcome = {**await self._counters.welcomed(), **self._unsent_welcome}
            self._learn_welcome_at = now + _WELCOME_LEARN_SECONDS
        self._is_alone = False

    def _forget_what_has_ended(self, now: float) -> None:
        for subject in [subject for subject, until in self._bans.items() if until <= now]:
            del self._bans[subject]
            self._unsent_bans.pop(subject, None)
        if now >= self._forget_signed_in_at:
            self._forget_signed_in_at = now + _WELCOME_NOTED_SECONDS
            self._signed_in.clear()

    def _go_alone(self, fault: StoreUnavailable) -> None:
        """Count alone while Redis is away: log it once, and report bans without its answer."""
        if not self._is_alone:
            _log.warning("each process counts failures on its own: %s", fault)
        self._is_alone = True
        for subject, ban in self._unsent_bans.items():
            self._tell(subject, ban)


def _make_room(entries: dict[str, Any], most: int) -> None:
    """Drop the oldest entry if there are ``most`` of them."""
    if len(entries) >= most:
        del entries[next(iter(entries))]
