"""What Redis reports becomes findings: how severe, and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecar.cli.redis_settings import Finding, Master, Severity, judge

GOOD = Master(
    "one:6379",
    info={
        "redis_version": "7.0.15",
        "role": "master",
        "cluster_enabled": 0,
        "connected_slaves": 0,
        "maxmemory": 1 << 30,
        "maxmemory_policy": "noeviction",
        "used_memory": 1 << 20,
        "total_system_memory": 1 << 32,
        "aof_enabled": 1,
        "aof_last_write_status": "ok",
        "rdb_last_bgsave_status": "ok",
        "connected_clients": 10,
        "maxclients": 10_000,
    },
    settings={"save": "3600 1", "appendfsync": "everysec"},
)
PROBLEM, WARNING, NOTE = Severity


def but(master: Master = GOOD, settings: dict[str, str] | None = None, **told: Any) -> Master:
    """Return a master that says some things otherwise."""
    assert master.info is not None
    return replace(
        master,
        info={**master.info, **told},
        settings={**(master.settings or {}), **(settings or {})},
    )


IN_CLUSTER = but(replace(GOOD, is_expected_in_cluster=True), cluster_enabled=1, connected_slaves=1)


def test_a_redis_that_keeps_tokens_has_no_findings() -> None:
    assert judge([GOOD]) == []
    assert judge([IN_CLUSTER, IN_CLUSTER]) == []


CASES: dict[str, tuple[Master, Severity, str]] = {
    "too old": (but(redis_version="5.0.14"), PROBLEM, "upgrade to Redis 6 or newer"),
    "a replica": (but(role="slave"), PROBLEM, "name the master in store.url"),
    "loading": (but(loading=1), WARNING, "still loads its data"),
    "a lone node of a Cluster": (
        but(cluster_enabled=1, connected_slaves=1),
        PROBLEM,
        "use redis+cluster://",
    ),
    "allkeys with a limit": (
        but(maxmemory_policy="allkeys-lru"),
        PROBLEM,
        "Redis drops any token when its memory is full (maxmemory-policy allkeys-lru); "
        "set maxmemory-policy noeviction",
    ),
    "volatile with a limit": (
        but(maxmemory_policy="volatile-ttl"),
        PROBLEM,
        "Redis drops tokens that expire when its memory is full",
    ),
    "eviction without a limit": (
        but(maxmemory_policy="allkeys-lru", maxmemory=0),
        WARNING,
        "Redis will drop any token once a maxmemory is set",
    ),
    "nearly full": (
        but(used_memory=900 << 20),
        WARNING,
        "Redis uses 88% of maxmemory; once it is full, it refuses writes",
    ),
    "nearly all of the machine": (
        but(maxmemory=0, used_memory=7 << 29),
        WARNING,
        "Redis uses 88% of the machine's memory; once it is full, the kernel kills it",
    ),
    "nothing on disk": (but(settings={"save": ""}, aof_enabled=0), PROBLEM, "set appendonly yes"),
    "snapshots alone": (but(aof_enabled=0), WARNING, "the latest revocations undone"),
    "nobody may ask for snapshots": (
        replace(but(aof_enabled=0), settings=None),
        NOTE,
        "refuses CONFIG (as managed services do)",
    ),
    "no fsync": (but(settings={"appendfsync": "no"}), WARNING, "set appendfsync everysec"),
    "append-only file failed": (but(aof_last_write_status="err"), PROBLEM, "is its disk full?"),
    "snapshot failed": (but(rdb_last_bgsave_status="err"), PROBLEM, "refuses writes until it can"),
    "snapshot failed, writes go on": (
        but(settings={"stop-writes-on-bgsave-error": "no"}, rdb_last_bgsave_status="err"),
        WARNING,
        "could not write its last snapshot",
    ),
    "few connections left": (but(connected_clients=9000), WARNING, "raise maxclients"),
    "clock ahead": (replace(GOOD, ahead_seconds=61.0), WARNING, "is 61 s ahead of this machine's"),
    "clock behind": (replace(GOOD, ahead_seconds=-5.0), WARNING, "is 5 s behind this machine's"),
    "no tracking": (
        replace(GOOD, refuses_tracking=True),
        WARNING,
        "grant the Redis user +client|track",
    ),
    "nothing may be asked": (
        Master("", None, None),
        NOTE,
        "Redis refuses INFO, so its settings can't be checked",
    ),
    "a master without a replica behind Sentinels": (
        replace(GOOD, is_behind_sentinel=True),
        WARNING,
        "the master has no replica",
    ),
    "a master without a replica in a Cluster": (
        but(IN_CLUSTER, connected_slaves=0),
        WARNING,
        "the master has no replica",
    ),
    "stale reads": (
        but(IN_CLUSTER, {"cluster-allow-reads-when-down": "yes"}),
        WARNING,
        "revoked tokens may pass",
    ),
    "all or nothing": (
        but(IN_CLUSTER, {"cluster-require-full-coverage": "yes"}),
        NOTE,
        "one lost slot stops the whole Cluster",
    ),
}


@pytest.mark.parametrize(("master", "severity", "text"), CASES.values(), ids=CASES)
def test_each_setting_that_matters_is_one_sentence_with_what_to_do(
    master: Master, severity: Severity, text: str
) -> None:
    (finding,) = judge([master])
    assert finding.severity is severity
    assert text in finding.text


def test_what_all_masters_have_in_common_is_said_once_and_the_rest_by_name() -> None:
    first, second = IN_CLUSTER, replace(but(IN_CLUSTER, loading=1), name="two:6379")
    found = judge(
        [but(first, maxmemory_policy="allkeys-lru"), but(second, maxmemory_policy="allkeys-lru")]
    )
    assert [finding.text.partition(" ")[0] for finding in found] == ["Redis", "two:6379:"]


def test_the_worst_comes_first() -> None:
    found = judge([but(but(loading=1), {"save": ""}, aof_enabled=0)])
    assert [finding.severity for finding in found] == [PROBLEM, WARNING]
    assert isinstance(found[0], Finding)
