"""The questions that the benchmark answers, one file each: which peers, which load, which figure.

Each module defines one or more ``Scenario``, whose ``prepare`` starts the peers and adds the cases.
The case of a missing peer is skipped, and the plan notes why.
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
"""The suffix that marks the case of the old tree."""


@dataclass(frozen=True, slots=True)
class Case:
    """One peer under one load. ``run`` takes the duration in whole seconds."""

    label: str
    run: Callable[[int], Sample]
    warms_up: bool = True


@dataclass(slots=True)
class Plan:
    """The cases of a scenario that are possible on this stage.

    In the plan of an old tree, labels end with ``suffix`` and the sidecar is the only peer.
    """

    stage: Stage
    suffix: str = ""
    cases: list[Case] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def start(self, name: str, **changes: object) -> Running | None:
        """Start a peer, or note why it is missing (unless it was not asked for)."""
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
        """Add the case of a constant load, unless the peer is missing."""
        if running is not None:
            self.add(label, lambda seconds: self.stage.load(running, load, seconds)[0])


@dataclass(frozen=True, slots=True)
class Scenario:
    """One question. The ``compared`` figure of each of ``subjects`` is compared with all others."""

    name: str
    title: str
    prepare: Callable[[Plan], None]
    columns: tuple[str, ...] = LOAD_COLUMNS
    compared: str = "cpu_us"
    subjects: tuple[str, ...] = (OURS,)
    is_run_once: bool = False
