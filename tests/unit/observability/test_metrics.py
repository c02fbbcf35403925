"""Counts add up, labels stay few, and several processes read as one."""

from __future__ import annotations

import asyncio
import marshal
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import ALL_FORMS, Form
from sidecar.core.patterns import compile_pattern
from sidecar.core.routes import Route
from sidecar.observability.access_log import RequestLog
from sidecar.observability.metric_families import FAMILIES, Aggregation, MetricType, Snapshot, merge
from sidecar.observability.metrics import MOST_CELLS, Metrics
from sidecar.store.cache import TokenCache
from tests.contract.records import read_record

ROUTE = "/v1/dynamic/listener/{id}"
REQUESTS = "sidecar_requests_total"
DENIALS = "sidecar_denials_total"


def entry(**fields: Any) -> RequestLog:
    made = RequestLog(10.0, "192.0.2.1")
    for name, value in {"route": ROUTE, "method": "GET", "status": 200, **fields}.items():
        setattr(made, name, value)
    return made


def route(path: str, methods: set[str] | None) -> Route:
    named = None if methods is None else frozenset(methods)
    return Route(compile_pattern(path), named, "listener", ALL_FORMS, None, False, path)


def observed(*entries: RequestLog, now: float = 10.003) -> Snapshot:
    metrics = Metrics("1.0")
    for one in entries:
        metrics.observe(one, now)
    return metrics.snapshot()


def test_a_request_is_counted_by_route_method_status_and_code() -> None:
    snapshot = observed(entry(), entry(), entry(status=502, code="upstream_broken"))
    assert snapshot[REQUESTS] == {
        (ROUTE, "GET", "200", "none"): 2.0,
        (ROUTE, "GET", "502", "upstream_broken"): 1.0,
    }


def test_a_denial_is_counted_by_code_and_form_as_well() -> None:
    denied = entry(status=401, code="invalid_token", form=Form.QUERY)
    unread = entry(status=401, code="missing_credentials")
    assert observed(entry(), denied, unread)[DENIALS] == {
        ("invalid_token", "query"): 1.0,
        ("missing_credentials", "none"): 1.0,
    }


@pytest.mark.parametrize(
    ("method", "label"), [("GET", "GET"), ("PURGE", "other"), ("get", "other"), ("", "none")]
)
def test_a_method_is_one_of_the_known_ones_or_other(method: str, label: str) -> None:
    assert observed(entry(method=method))[REQUESTS] == {(ROUTE, label, "200", "none"): 1.0}


def test_a_request_without_a_route_is_counted_under_none() -> None:
    snapshot = observed(entry(route="", method="", status=400, code="bad_request"))
    assert snapshot[REQUESTS] == {("none", "none", "400", "bad_request"): 1.0}


def test_the_number_of_series_is_bounded_whatever_an_upstream_answers() -> None:
    many = [entry(route=f"/{n}", status=n % 500 + 100) for n in range(MOST_CELLS + 100)]
    counted = observed(*many)[REQUESTS]
    assert len(counted) == MOST_CELLS + 1
    assert counted["other", "other", "other", "other"] == 100.0
    assert sum(value for value in counted.values() if isinstance(value, float)) == len(many)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0001, 0), (0.0005, 0), (0.0006, 1), (60.0, 15), (61.0, 16)]
)
def test_a_duration_falls_into_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    made = entry()
    made.started = 0.0
    counts = observed(made, now=seconds)["sidecar_request_duration_seconds"][ROUTE,]
    assert isinstance(counts, list)
    assert [index for index, count in enumerate(counts[:-1]) if count] == [bucket]
    assert counts[-1] == seconds


def test_an_upstreams_time_is_counted_only_for_requests_that_had_one() -> None:
    assert "sidecar_upstream_duration_seconds" not in observed(entry())
    snapshot = observed(entry(upstream_seconds=0.002), entry())
    counts = snapshot["sidecar_upstream_duration_seconds"][ROUTE,]
    assert isinstance(counts, list)
    assert (sum(counts[:-1]), counts[-1]) == (1, 0.002)


def test_bytes_are_added_up_by_route() -> None:
    snapshot = observed(entry(bytes_in=5, bytes_out=7), entry(bytes_in=1, status=500))
    assert snapshot["sidecar_received_bytes_total"] == {(ROUTE,): 6.0}
    assert snapshot["sidecar_sent_bytes_total"] == {(ROUTE,): 7.0}


async def test_look_ups_are_timed_and_failures_counted() -> None:
    """The cache times each look-up, even one without an answer."""

    async def fetch(digest: str, asker: str) -> bytes | None:
        if digest == "away":
            raise StoreUnavailable("no answer within 250 ms")
        return None

    metrics = Metrics("1.0")
    cache = TokenCache(most_tokens=0, max_age_seconds=60, outage_grace_seconds=0)
    cache.connect(fetch, read_record)
    cache.lookup_seconds = metrics.lookup_seconds
    metrics.follow_cache(cache)
    assert await cache.look_up("there") is None
    with pytest.raises(StoreUnavailable):
        await cache.look_up("away")
    snapshot = metrics.snapshot()
    counts = snapshot["sidecar_store_lookup_seconds"][()]
    assert isinstance(counts, list)
    assert sum(counts[:-1]) == 2
    assert snapshot["sidecar_store_failures_total"] == {(): 1.0}


async def test_a_caller_that_disconnects_does_not_count_as_a_failure_of_the_store() -> None:
    metrics = Metrics("1.0")
    cache = TokenCache(most_tokens=0, max_age_seconds=60, outage_grace_seconds=0)

    async def fetch(digest: str, asker: str) -> bytes | None:
        raise asyncio.CancelledError

    cache.connect(fetch, read_record)
    metrics.follow_cache(cache)
    with pytest.raises(asyncio.CancelledError):
        await cache.look_up("there")
    assert metrics.snapshot()["sidecar_store_failures_total"] == {(): 0.0}


def test_bans_are_counted_by_what_is_banned_and_never_by_name() -> None:
    metrics = Metrics("1.0")
    for network, account in (("192.0.2.0/24", None), (None, "acme"), ("192.0.2.0/24", "acme")):
        metrics.on_ban(network, account, 300.0)
    bans = metrics.snapshot()["sidecar_bans_total"]
    assert bans == {("network",): 1.0, ("account",): 1.0, ("pair",): 1.0}


@dataclass
class Counts:
    """A cache, a pool and a configuration in one."""

    hits: int = 7
    misses: int = 3
    invalidations: int = 1
    failures: int = 0
    entries: int = 4
    ends: tuple[float, ...] = ()
    is_watching: bool = False
    open_count: int = 5
    idle_count: int = 2
    waiting_count: int = 1
    opened: int = 9
    retries: int = 2
    generation: int = 3
    loaded_at: float = 1_800_000_000.5
    is_valid: bool = True
    needs_restart: tuple[str, ...] = ("listen.address",)
    refused: int = 2


def test_metrics_of_other_parts_are_read_for_a_snapshot() -> None:
    metrics, counts = Metrics("1.0"), Counts()
    metrics.follow_cache(counts)
    metrics.follow_pools(lambda: {"listener": counts})
    metrics.follow_configuration(lambda: counts)
    metrics.follow("sidecar_connections", lambda: counts.open_count)
    counts.hits, counts.open_count = 8, 6
    snapshot = metrics.snapshot()
    assert snapshot["sidecar_cache_hits_total"] == {(): 8.0}
    assert snapshot["sidecar_store_watching"] == {(): 0.0}
    assert snapshot["sidecar_connections"] == {(): 6.0}
    assert snapshot["sidecar_configuration_valid"] == {(): 1.0}
    assert snapshot["sidecar_configuration_awaits_restart"] == {(): 1.0}
    assert snapshot["sidecar_upstream_connections"] == {
        ("listener", "open"): 6.0,
        ("listener", "idle"): 2.0,
        ("listener", "waiting"): 1.0,
    }
    assert snapshot["sidecar_upstream_connections_opened_total"] == {("listener",): 9.0}
    assert snapshot["sidecar_upstream_retries_total"] == {("listener",): 2.0}


def test_tokens_that_expire_soon_are_counted_from_time_to_time() -> None:
    metrics, counts, clock = Metrics("1.0"), Counts(), [1000.0]
    counts.ends = (999.0, 1001.0, 1000.0 + 86400, 1000.0 + 2 * 86400, 1000.0 + 31 * 86400)
    metrics.follow_cache(counts, lambda: clock[0])
    wanted = {("1d",): 2.0, ("7d",): 3.0, ("30d",): 3.0}
    assert metrics.snapshot()["sidecar_tokens_ending"] == wanted
    counts.ends = ()
    clock[0] += 14.0
    assert metrics.snapshot()["sidecar_tokens_ending"] == wanted
    clock[0] += 1.0
    assert metrics.snapshot()["sidecar_tokens_ending"] == dict.fromkeys(wanted, 0.0)


def test_series_to_come_are_shown_as_zero_and_add_nothing() -> None:
    metrics = Metrics("1.0")
    metrics.expect(lambda: [route(ROUTE, {"GET", "PURGE"}), route("/any", None)])
    before = metrics.snapshot()
    assert before[REQUESTS] == {
        (ROUTE, "GET", "200", "none"): 0.0,
        ("/any", "GET", "200", "none"): 0.0,
    }
    assert before["sidecar_bans_total"] == {("network",): 0.0, ("account",): 0.0, ("pair",): 0.0}
    assert before[DENIALS]["upstream_timeout", "none"] == 0.0
    assert set(before["sidecar_upstream_duration_seconds"]) == {(ROUTE,), ("/any",)}
    metrics.observe(entry(), 10.003)
    metrics.observe(entry(status=401, code="invalid_token", form=Form.QUERY), 10.003)
    after = metrics.snapshot()
    assert after[REQUESTS][ROUTE, "GET", "200", "none"] == 1.0
    assert {k: v for k, v in after[DENIALS].items() if v} == {("invalid_token", "query"): 1.0}


def test_a_snapshot_can_be_sent_to_another_process() -> None:
    snapshot = observed(entry(), entry(code="overloaded", status=503, form=Form.BASIC))
    assert marshal.loads(marshal.dumps(snapshot)) == snapshot


@given(st.lists(st.lists(st.sampled_from([200, 401, 503]), max_size=20), min_size=1, max_size=5))
def test_several_processes_count_what_one_would_have_counted(shares: list[list[int]]) -> None:
    by_workers = merge([observed(*(entry(status=s) for s in share)) for share in shares])
    by_one = observed(*(entry(status=s) for share in shares for s in share))
    assert by_workers[REQUESTS] == by_one[REQUESTS] if any(shares) else REQUESTS not in by_workers
    assert by_workers.get("sidecar_sent_bytes_total") == by_one.get("sidecar_sent_bytes_total")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_values_of_several_processes_are_merged_as_the_family_defines(family: Any) -> None:
    labels = family.labels
    both: dict[Aggregation, Any] = {
        Aggregation.ADDED: 5.0,
        Aggregation.LARGEST: 3.0,
        Aggregation.SMALLEST: 2.0,
    }
    wanted = [4.0, 6.0] if family.type is MetricType.HISTOGRAM else both[family.aggregation]
    values: tuple[Any, Any] = ([1.0, 2.0], [3.0, 4.0]) if isinstance(wanted, list) else (2.0, 3.0)
    assert merge([{family.name: {labels: value}} for value in values]) == {
        family.name: {labels: wanted}
    }


def test_merging_does_not_change_the_snapshots() -> None:
    one, other = observed(entry()), observed(entry())
    before = marshal.dumps(one)
    merge([one, other])
    assert marshal.dumps(one) == before
