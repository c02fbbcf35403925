"""The questions asked, one file each: which peers, under which load, and what is compared.

Each module names one or more ``Scenario``; its ``prepare`` starts the peers and adds the cases. A
case for a peer that is missing is left out and the plan notes why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.peers.registry import PEERS
from benchmarks.processes import BenchError, UnavailableError
from benchmarks.stage import Stage
from benchmarks.wrk import Load

LOAD_COLUMNS = ("cpu_us", "rate", "p50_ms", "p99_ms", "memory_mib", "busy_percent", "redis_us")
OURS = PEERS["sidecar"].title
OLD = ", old"
"""Ends the label of a case of the old tree, whose beginning is that of ours."""


@dataclass(frozen=True, slots=True)
class Case:
    """One peer under one load. ``run`` takes the whole seconds to go on for."""

    label: str
    run: Callable[[int], Sample]
    warms_up: bool = True


@dataclass(slots=True)
class Plan:
    """The cases of a scenario as they are found possible on this stage.

    That of an old tree has a ``suffix`` to its labels, and no peers but ours.
    """

    stage: Stage
    suffix: str = ""
    cases: list[Case] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def start(self, name: str, **changes: object) -> Running | None:
        """Start a peer, or note why there is none (silently, if it was not asked for)."""
        peer = PEERS[name]
        if name not in self.stage.settings.peers or (self.suffix and not peer.is_ours):
            return None
        label = peer.title + self.suffix
        try:
            return self.stage.start(name, **changes)
        except UnavailableError as reason:
            self.left_out[label] = str(reason)
        except (BenchError, OSError) as error:
            self.failed[label] = str(error) or repr(error)
        return None

    def add(self, label: str, run: Callable[[int], Sample], *, warms_up: bool = True) -> None:
        """Add a case."""
        self.cases.append(Case(label + self.suffix, run, warms_up))

    def add_load(self, label: str, running: Running | None, load: Load) -> None:
        """Add the case of a constant load; nothing is added for a peer that is not there."""
        if running is not None:
            self.add(label, lambda seconds: self.stage.load(running, load, seconds)[0])


@dataclass(frozen=True, slots=True)
class Scenario:
    """One question. The ``compared`` figure of each of ``subjects`` is set against all others."""

    name: str
    title: str
    prepare: Callable[[Plan], None]
    columns: tuple[str, ...] = LOAD_COLUMNS
    compared: str = "cpu_us"
    subjects: tuple[str, ...] = (OURS,)
    is_run_once: bool = False
