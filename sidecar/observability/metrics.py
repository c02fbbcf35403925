"""The counts of requests, and the metrics that other parts keep.

A request costs one look-up and a handful of additions (``Metrics.observe``): one cell counts all
requests with the same route, method, status, code and form. Samples with labels are made of the
cells only for a snapshot. All other metrics are read from their owners at that time (``follow``).

Cardinality is bounded. Routes and upstreams come from the configuration, codes from the program,
and uncommon methods are folded; beyond ``MOST_CELLS`` combinations, requests count as ``other``.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import product
from time import time
from typing import Final, Protocol

from sidecar.core.histogram import Histogram
from sidecar.core.model import Form, TokenRecord
from sidecar.core.problems import PROXY_CODES
from sidecar.core.routes import Route
from sidecar.observability.access_log import RequestLog
from sidecar.observability.metric_families import (
    REQUEST_BOUNDS,
    STORE_BOUNDS,
    SampleValue,
    Snapshot,
    merge,
)

LookUp = Callable[[str], Awaitable[TokenRecord | None]]

MOST_CELLS: Final = 4096
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"
NONE: Final = "none"
CUT: Final = "cut"
SPAN_RESULTS: Final = ("exported", "failed", "dropped")
SUBJECTS: Final = ("network", "account", "pair")
WITHIN_SECONDS: Final = {"1d": 86400.0, "7d": 7 * 86400.0, "30d": 30 * 86400.0}
_COUNT_SECONDS: Final = 15.0  # counting 100 000 tokens takes 5 ms


class CacheCounts(Protocol):
    """The part of ``store.cache.TokenCache`` that the metrics read."""

    hits: int
    misses: int
    invalidations: int
    failures: int

    @property
    def entries(self) -> int:
        """The number of entries, including those for unknown tokens."""

    @property
    def ends(self) -> Sequence[float]:
        """The times at which cached tokens expire, in Unix seconds; some never do."""

    @property
    def is_watching(self) -> bool:
        """Whether the store announces changes."""


class PoolCounts(Protocol):
    """The part of ``wire.pool.Pool`` that the metrics read."""

    opened: int
    retries: int

    @property
    def open_count(self) -> int:
        """The number of open connections."""

    @property
    def idle_count(self) -> int:
        """The number of open connections that no request uses."""

    @property
    def waiting_count(self) -> int:
        """The number of requests that wait for a connection."""


class ConfigurationState(Protocol):
    """The part of ``runtime.reload.ReloadState`` that the metrics read."""

    @property
    def generation(self) -> int:
        """1 at the start; each change adds one."""

    @property
    def loaded_at(self) -> float:
        """Unix time at which the configuration in force was loaded."""

    @property
    def is_valid(self) -> bool:
        """Whether the file, as last read, is in force."""

    @property
    def needs_restart(self) -> Sequence[str]:
        """Keys whose change needs a restart."""

    @property
    def refused(self) -> int:
        """How often a file has been refused."""


_BOUNDS: Final = list(REQUEST_BOUNDS)  # mypyc would build a tuple of floats on each use
_FIRST_BOUND: Final = REQUEST_BOUNDS[0]


def _bucket_of(seconds: float) -> int:
    """Return the bucket of a request's duration; most requests are in the first."""
    return 0 if seconds <= _FIRST_BOUND else bisect_left(_BOUNDS, seconds)


class _Cell:
    """The counts of all requests with the same labels."""

    __slots__ = ("bytes_in", "bytes_out", "counts", "seconds", "upstream")

    def __init__(self) -> None:
        self.counts = [0] * (len(REQUEST_BOUNDS) + 1)
        self.seconds = 0.0
        self.upstream = Histogram(REQUEST_BOUNDS)
        self.bytes_in = 0
        self.bytes_out = 0


_Key = tuple[str, str, int, str, str] | tuple[str, str, int]
"""Route, method and status; for requests that were refused or failed, also code and form."""
_OVERFLOW: Final[_Key] = (OTHER, OTHER, 0, OTHER, OTHER)


class _ExpiryCounts:
    """How many cached tokens expire soon, counted at most every ``_COUNT_SECONDS``."""

    def __init__(self, cache: CacheCounts, now: Callable[[], float]) -> None:
        self._cache = cache
        self._now = now
        self._counted_at = float("-inf")
        self._samples: dict[tuple[str, ...], SampleValue] = {}

    def read(self) -> Snapshot:
        now = self._now()
        if not 0 <= now - self._counted_at < _COUNT_SECONDS:
            ends = [end - now for end in self._cache.ends if end > now]
            self._samples = {
                (label,): float(sum(left <= within for left in ends))
                for label, within in WITHIN_SECONDS.items()
            }
            self._counted_at = now
        return {"sidecar_tokens_ending": self._samples}


class Metrics:
    """The metrics of one process. ``version`` and ``is_compiled`` are of the program."""

    def __init__(self, version: str, *, is_compiled: bool = False) -> None:
        self._cells: dict[_Key, _Cell] = {}
        self.lookup_seconds = Histogram(STORE_BOUNDS)
        """The duration of look-ups in the store; the cache of tokens fills it."""
        self._bans: dict[tuple[str, ...], SampleValue] = {}
        self._sources: list[Callable[[], Snapshot]] = []
        self._build = (version, platform.python_version(), str(is_compiled).lower())

    def __repr__(self) -> str:
        return f"<Metrics cells={len(self._cells)} sources={len(self._sources)}>"

    # Events.

    def observe(self, entry: RequestLog, now: float) -> None:
        """Count a finished request. ``now`` is the time on the clock of ``entry.started``."""
        code = entry.code
        key: _Key = (
            (entry.route, entry.method, entry.status, code, entry.form)
            if code
            else (entry.route, entry.method, entry.status)
        )
        cell = self._cells.get(key) or self._new_cell(key)
        seconds = now - entry.started
        cell.seconds += seconds
        cell.counts[_bucket_of(seconds)] += 1
        cell.bytes_in += entry.bytes_in
        cell.bytes_out += entry.bytes_out
        if seconds := entry.upstream_seconds:
            upstream = cell.upstream
            upstream.sum += seconds
            upstream.counts[_bucket_of(seconds)] += 1

    def on_ban(self, network: str | None, account: str | None, seconds: float) -> None:
        """Count a ban (``auth.throttle.OnBan``) by its subject; only the log has the names."""
        subject = "account" if network is None else "network" if account is None else "pair"
        count = self._bans.get((subject,), 0)
        assert not isinstance(count, list)
        self._bans[subject,] = count + 1

    # Sources of a snapshot.

    def add_source(self, source: Callable[[], Snapshot]) -> None:
        """Include the samples of ``source`` in each snapshot."""
        self._sources.append(source)

    def follow(self, name: str, read: Callable[[], float]) -> None:
        """Include a metric without labels, whose value ``read`` returns."""
        self.add_source(lambda: {name: {(): float(read())}})

    def expect(self, routes: Callable[[], Iterable[Route]]) -> None:
        """Include zeros for series to come, so that a first error shows as an increase."""
        self.add_source(lambda: _zeros(routes()))

    def follow_cache(self, cache: CacheCounts, now: Callable[[], float] = time) -> None:
        """Include the cache of tokens. ``now`` returns Unix seconds."""
        self.add_source(_ExpiryCounts(cache, now).read)
        self.follow("sidecar_cache_hits_total", lambda: cache.hits)
        self.follow("sidecar_cache_misses_total", lambda: cache.misses)
        self.follow("sidecar_cache_invalidations_total", lambda: cache.invalidations)
        self.follow("sidecar_cache_entries", lambda: cache.entries)
        self.follow("sidecar_store_failures_total", lambda: cache.failures)
        self.follow("sidecar_store_watching", lambda: cache.is_watching)

    def follow_pools(self, pools: Callable[[], Mapping[str, PoolCounts]]) -> None:
        """Include the connections to upstreams; ``pools`` returns them by the upstream's name."""

        def read() -> Snapshot:
            now: dict[tuple[str, ...], SampleValue] = {}
            opened: dict[tuple[str, ...], SampleValue] = {}
            retries: dict[tuple[str, ...], SampleValue] = {}
            for name, pool in pools().items():
                now[name, "open"] = float(pool.open_count)
                now[name, "idle"] = float(pool.idle_count)
                now[name, "waiting"] = float(pool.waiting_count)
                opened[name,] = float(pool.opened)
                retries[name,] = float(pool.retries)
            return {
                "sidecar_upstream_connections": now,
                "sidecar_upstream_connections_opened_total": opened,
                "sidecar_upstream_retries_total": retries,
            }

        self.add_source(read)

    def follow_spans(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Include the numbers of spans, which ``read`` returns by ``SPAN_RESULTS``."""

        def spans() -> Snapshot:
            counts = read()
            return {"sidecar_spans_total": {(r,): float(counts[r]) for r in SPAN_RESULTS}}

        self.add_source(spans)

    def follow_configuration(self, state: Callable[[], ConfigurationState]) -> None:
        """Include how the configuration in force relates to its file."""
        prefix = "sidecar_configuration"
        self.follow(f"{prefix}_generation", lambda: state().generation)
        self.follow(f"{prefix}_valid", lambda: state().is_valid)
        self.follow(f"{prefix}_loaded_timestamp_seconds", lambda: state().loaded_at)
        self.follow(f"{prefix}_awaits_restart", lambda: len(state().needs_restart))
        self.follow(f"{prefix}_refused_total", lambda: state().refused)

    def snapshot(self) -> Snapshot:
        """Return the current value of all metrics."""
        return merge(
            [
                _read_cells(self._cells),
                {
                    "sidecar_store_lookup_seconds": {(): self.lookup_seconds.value()},
                    "sidecar_bans_total": dict(self._bans),
                    "sidecar_build_info": {self._build: 1.0},
                },
                *(source() for source in self._sources),
            ]
        )

    async def collect(self) -> Snapshot:
        """Return ``snapshot``, as a coroutine for callers that may have to await workers."""
        return self.snapshot()

    def _new_cell(self, key: _Key) -> _Cell:
        if key[1] and key[1] not in METHODS:
            key = (key[0], OTHER, *key[2:])
        if key not in self._cells and len(self._cells) >= MOST_CELLS:
            key = _OVERFLOW
        return self._cells.setdefault(key, _Cell())


def _zeros(routes: Iterable[Route]) -> Snapshot:
    """Return zero requests for each route and its methods, and zero denials and bans."""
    routes = [*routes]
    names = [(route.name,) for route in routes]
    nothing: SampleValue = [0.0] * (len(REQUEST_BOUNDS) + 2)
    forms = [NONE, *Form]
    return {
        "sidecar_requests_total": {
            (route.name, method, "200", NONE): 0.0
            for route in routes
            for method in (route.methods or {"GET"}) & METHODS
        },
        "sidecar_request_duration_seconds": dict.fromkeys(names, nothing),
        "sidecar_upstream_duration_seconds": dict.fromkeys(names, nothing),
        "sidecar_received_bytes_total": dict.fromkeys(names, 0.0),
        "sidecar_sent_bytes_total": dict.fromkeys(names, 0.0),
        "sidecar_denials_total": dict.fromkeys(product([*PROXY_CODES, CUT], map(str, forms)), 0.0),
        "sidecar_bans_total": {(subject,): 0.0 for subject in SUBJECTS},
    }


def _read_cells(cells: Mapping[_Key, _Cell]) -> Snapshot:
    """Return the samples of all cells; several cells can add to one sample."""
    return merge(_samples_of(key, cell) for key, cell in cells.items())


def _samples_of(key: _Key, cell: _Cell) -> Snapshot:
    code, form = (key[3], key[4]) if len(key) > 3 else (NONE, NONE)
    route, method = key[0] or NONE, key[1] or NONE
    requests = float(sum(cell.counts))
    samples: Snapshot = {
        "sidecar_requests_total": {(route, method, str(key[2] or OTHER), code): requests},
        "sidecar_request_duration_seconds": {(route,): [*cell.counts, cell.seconds]},
        "sidecar_received_bytes_total": {(route,): float(cell.bytes_in)},
        "sidecar_sent_bytes_total": {(route,): float(cell.bytes_out)},
    }
    if any(cell.upstream.counts):
        samples["sidecar_upstream_duration_seconds"] = {(route,): cell.upstream.value()}
    if code != NONE:
        samples["sidecar_denials_total"] = {(code, str(form) or NONE): requests}
    return samples
