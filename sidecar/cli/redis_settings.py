"""Which Redis settings lose tokens, keep revoked ones alive or stop the store, and what to do.

The judgement rests on what each master reports (``INFO``, ``CONFIG GET``). A *problem* loses tokens
or stops the sidecar, now or at the next restart. A *warning* does so once something else fails too.
A *note* is for the admin to consider. If Redis refuses to report, that is a note, never "ok".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from sidecar.cli.redis_permissions import ANY_KEY

ASKED_SETTINGS: Final = (
    *("save", "appendfsync", "stop-writes-on-bgsave-error", "cluster-require-full-coverage"),
    *("cluster-allow-reads-when-down", "replica-read-only"),
)
OLDEST_MAJOR: Final = 6
"""Client-side caching and ACLs came with Redis 6."""

_NEARLY_FULL: Final = 0.8
_SKEW_SECONDS: Final = 2.0


class Severity(Enum):
    """How severe a finding is."""

    PROBLEM = "problem"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence: what is wrong, and what to do about it."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class Master:
    """What a master reports; ``None`` for a command that it refuses."""

    name: str
    info: Mapping[str, Any] | None
    settings: Mapping[str, str] | None
    is_expected_in_cluster: bool = False
    is_behind_sentinel: bool = False
    ahead_seconds: float = 0.0
    """How far its clock is ahead of this machine's."""
    refuses_tracking: bool = False
    denied: tuple[str, ...] = ()
    """The rules of its ACL that the user lacks (``redis_permissions``)."""


@dataclass(slots=True)
class _Findings:
    of: dict[Finding, list[str]] = field(default_factory=dict)

    def add(self, finding: Finding, master: Master) -> None:
        self.of.setdefault(finding, []).append(master.name)


def judge(masters: Sequence[Master]) -> list[Finding]:
    """Return the findings on these masters, the worst first; equal ones are merged."""
    found = _Findings()
    for master in masters:
        for rule in _RULES if master.info is not None else _RULES_IN_SILENCE:
            for finding in rule(master):
                found.add(finding, master)
    told = [_naming(finding, names, len(masters)) for finding, names in found.of.items()]
    return sorted(told, key=lambda finding: [*Severity].index(finding.severity))


def _naming(finding: Finding, names: Sequence[str], of: int) -> Finding:
    if len(names) == of:
        return finding
    return Finding(finding.severity, f"{', '.join(names)}: {finding.text}")


def _judge_silence(_: Master) -> Iterator[Finding]:
    yield _note(
        "Redis refuses INFO, so its settings can't be checked: make sure that maxmemory-policy is "
        "noeviction, and that it keeps its data on disk"
    )


def _judge_version(master: Master) -> Iterator[Finding]:
    version = str(_told(master, "redis_version", ""))
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_MAJOR:
        yield _problem(
            f"Redis {version} is too old: it can't notify of changed tokens; upgrade to Redis "
            f"{OLDEST_MAJOR} or newer, or to Valkey"
        )


def _judge_role(master: Master) -> Iterator[Finding]:
    if _told(master, "role", "master") != "master":
        yield _problem(
            "this Redis is a replica: it refuses writes or loses them, and may miss revocations; "
            "name the master in store.url, or the Sentinels (redis+sentinel://)"
        )
    if _told(master, "loading", 0):
        yield _warning("Redis still loads its data: requests are answered 503 until it is done")


def _judge_topology(master: Master) -> Iterator[Finding]:
    is_cluster = bool(_told(master, "cluster_enabled", 0))
    if is_cluster and not master.is_expected_in_cluster:
        yield _problem(
            "this Redis is one node of a Cluster, and most tokens are on other nodes; "
            "use redis+cluster:// in store.url"
        )
    replicas = _told(master, "connected_slaves", 0)
    if not replicas and (is_cluster or master.is_behind_sentinel):
        yield _warning(
            "the master has no replica: if it fails, nothing takes over; add or restore one"
        )
    if is_cluster and _set_to(master, "cluster-allow-reads-when-down", "yes"):
        yield _warning(
            "a master cut off from the Cluster keeps answering (cluster-allow-reads-when-down "
            "yes), so revoked tokens may pass; set it to no"
        )
    if is_cluster and _set_to(master, "cluster-require-full-coverage", "yes"):
        yield _note(
            "one lost slot stops the whole Cluster (cluster-require-full-coverage yes): every "
            "token is then answered 503; with no, only tokens of the lost slots are"
        )


def _judge_eviction(master: Master) -> Iterator[Finding]:
    policy = str(_told(master, "maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return
    which = "tokens that expire" if policy.startswith("volatile") else "any token"
    advice = f"(maxmemory-policy {policy}); set maxmemory-policy noeviction"
    if _told(master, "maxmemory", 0):
        yield _problem(f"Redis drops {which} when its memory is full {advice}")
    else:
        yield _warning(f"Redis will drop {which} once a maxmemory is set and reached {advice}")


def _judge_memory(master: Master) -> Iterator[Finding]:
    used = float(_told(master, "used_memory", 0))
    limit = float(_told(master, "maxmemory", 0))
    whole = limit or float(_told(master, "total_system_memory", 0))
    if not whole or used < _NEARLY_FULL * whole:
        return
    what = "maxmemory" if limit else "the machine's memory"
    then = (
        "it refuses writes: no token can be created, revoked or rotated"
        if limit
        else "the kernel kills it"
    )
    yield _warning(
        f"Redis uses {used / whole:.0%} of {what}; once it is full, {then}; give it more memory"
    )


def _judge_persistence(master: Master) -> Iterator[Finding]:
    if _told(master, "aof_enabled", 0):
        yield from _judge_append_only_file(master)
    elif master.settings is None or "save" not in master.settings:
        yield _note(
            "Redis keeps no append-only file, and refuses CONFIG (as managed services do), so its "
            "snapshots can't be checked: make sure in the provider's console that data survives a "
            "restart"
        )
    elif not master.settings["save"]:
        yield _problem(
            "Redis keeps nothing on disk: a restart loses all tokens; set appendonly yes "
            "(CONFIG SET appendonly yes, then CONFIG REWRITE)"
        )
    else:
        yield _warning(
            "Redis keeps only snapshots: after a crash, the latest tokens are lost and the latest "
            "revocations undone; set appendonly yes"
        )
    yield from _judge_snapshots(master)


def _judge_append_only_file(master: Master) -> Iterator[Finding]:
    if _told(master, "aof_last_write_status", "ok") != "ok":
        yield _problem(
            "Redis could not write its append-only file, and refuses writes: is its disk full?"
        )
    if _set_to(master, "appendfsync", "no"):
        yield _warning(
            "Redis lets the kernel decide when to write to disk (appendfsync no): a crash of the "
            "machine may undo half a minute of revocations; set appendfsync everysec"
        )


def _judge_snapshots(master: Master) -> Iterator[Finding]:
    if _told(master, "rdb_last_bgsave_status", "ok") == "ok":
        return
    yield (
        _warning("Redis could not write its last snapshot: check its disk space and directory")
        if _set_to(master, "stop-writes-on-bgsave-error", "no")
        else _problem(
            "Redis could not write its last snapshot, and refuses writes until it can: check its "
            "disk space and directory"
        )
    )


def _judge_connections(master: Master) -> Iterator[Finding]:
    used, limit = _told(master, "connected_clients", 0), _told(master, "maxclients", 0)
    if limit and used >= _NEARLY_FULL * limit:
        yield _warning(
            f"{used} of {limit} connections to Redis are in use; at the limit it refuses the "
            "sidecar's; raise maxclients"
        )


def _judge_clock(master: Master) -> Iterator[Finding]:
    if abs(master.ahead_seconds) > _SKEW_SECONDS:
        way = "ahead of" if master.ahead_seconds > 0 else "behind"
        yield _warning(
            f"Redis's clock is {abs(master.ahead_seconds):.0f} s {way} this machine's: tokens "
            "expire that much too early or too late; synchronise both by NTP"
        )


def _judge_tracking(master: Master) -> Iterator[Finding]:
    if master.refuses_tracking:
        yield _warning(
            "Redis refuses CLIENT TRACKING, so no token can be cached and every request needs a "
            "look-up; grant the Redis user +client|tracking"
        )


def _judge_permissions(master: Master) -> Iterator[Finding]:
    if not master.denied:
        return
    if ANY_KEY in master.denied:
        yield _warning(
            "Redis denies its user the keys that begin with store.prefix, so nothing can be stored "
            "or looked up: grant them, as in ~sidecar:* (docs/reference/redis.md)"
        )
        return
    rules = " ".join(f"+{rule}" for rule in master.denied)
    what = ", ".join(rule.upper().replace("|", " ") for rule in master.denied)
    yield _warning(
        f"Redis denies its user {what}: what needs it is answered 503, or fails; grant {rules} "
        "(docs/reference/redis.md)"
    )


_RULES: Final[tuple[Callable[[Master], Iterable[Finding]], ...]] = (
    _judge_version,
    _judge_role,
    _judge_topology,
    _judge_eviction,
    _judge_memory,
    _judge_persistence,
    _judge_connections,
    _judge_clock,
    _judge_tracking,
    _judge_permissions,
)
_RULES_IN_SILENCE: Final = (_judge_silence, _judge_clock, _judge_tracking, _judge_permissions)


def _told(master: Master, name: str, default: Any) -> Any:
    return default if master.info is None else master.info.get(name, default)


def _set_to(master: Master, name: str, value: str) -> bool:
    return master.settings is not None and master.settings.get(name) == value


def _problem(text: str) -> Finding:
    return Finding(Severity.PROBLEM, text)


def _warning(text: str) -> Finding:
    return Finding(Severity.WARNING, text)


def _note(text: str) -> Finding:
    return Finding(Severity.NOTE, text)
