"""What an honest caller is entitled to during an attack, and a table of what it got."""

from __future__ import annotations

from tests.fairness.honest import HEALTH, KEPT, NEW
from tests.fairness.stage import Played

MOST_SECONDS = 0.25
MOST_TIMES_REST = 3.0
FLOOR_SECONDS = 0.1
"""A 99th percentile below this is fair, however fast the others were: with 1500 busy connections,
an iteration of the loop that gives each of them one short turn takes most of this time."""
MOST_BYTES = 256 * 1024 * 1024

HEADINGS = (
    *("attack", "kept: rest p99", "p50", "p99", "max", "statuses"),
    *("new: p99", "statuses", "healthz: max", "statuses", "MiB", "unavailable", "worker"),
    "answers to the attacker",
)


def faults(played: Played) -> list[str]:
    """Return a sentence for everything that went wrong; an empty list means success."""
    return [
        *_faults_of_answers(played),
        *_faults_of_times(played),
        *_faults_of_the_process(played),
        *played.notes,
    ]


def _faults_of_answers(played: Played) -> list[str]:
    wrong = [
        f"{asker} was answered {statuses}"
        for asker in played.attack.judged
        if set(statuses := played.during[asker].statuses) != {200}
    ]
    wrong += [
        f"{asker} was answered {statuses} afterwards"
        for asker in (KEPT, NEW, HEALTH)
        if set(statuses := played.after[asker].statuses) != {200}
    ]
    if played.store_unavailable and not played.attack.store_is_away:
        wrong.append(f"{played.store_unavailable} times the store was said to be unavailable")
    return wrong


def _faults_of_times(played: Played) -> list[str]:
    wrong = []
    for asker in (KEPT, NEW):
        rest, during = played.rest[asker], played.during[asker]
        bar = min(MOST_SECONDS, max(FLOOR_SECONDS, MOST_TIMES_REST * rest.p99))
        if asker in played.attack.judged and during.p99 > bar:
            wrong.append(f"{asker}: p99 {_ms(during.p99)}, at most {_ms(bar)} is fair")
        if played.after[asker].p99 > bar:
            wrong.append(f"{asker}: p99 {_ms(played.after[asker].p99)} afterwards")
    if HEALTH in played.attack.judged and played.during[HEALTH].longest > MOST_SECONDS:
        wrong.append(f"/healthz took {_ms(played.during[HEALTH].longest)}")
    return wrong


def _faults_of_the_process(played: Played) -> list[str]:
    wrong = []
    if not played.has_same_worker or "is killed" in played.log:
        wrong.append("the worker is another one")
    if played.account.held > played.attack.most_held:
        wrong.append(f"{played.account.held} connections of the attacker's are open")
    if played.most_bytes > MOST_BYTES:
        wrong.append(f"{played.most_bytes >> 20} MiB of memory")
    return wrong


def row(played: Played) -> tuple[str, ...]:
    """Return one row of the table."""
    kept, new, health = (played.during[asker] for asker in (KEPT, NEW, HEALTH))
    return (
        played.attack.name,
        _ms(played.rest[KEPT].p99),
        *(_ms(kept.p50), _ms(kept.p99), _ms(kept.longest), _counts(kept.statuses)),
        *(_ms(new.p99), _counts(new.statuses)),
        *(_ms(health.longest), _counts(health.statuses)),
        str(played.most_bytes >> 20),
        str(played.store_unavailable),
        "same" if played.has_same_worker else "KILLED",
        _counts(played.account.answers) or f"{played.account.held} held",
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """Return the rows as Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _counts(statuses: dict[int, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
