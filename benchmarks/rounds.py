"""Run cases in turns: A B C, A B C, … after a short warm-up of each.

With an old tree, each case of the sidecar is followed at once by the same case of the old tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Sample
from benchmarks.processes import BenchError
from benchmarks.scenarios import OLD, Case, Plan, Scenario
from benchmarks.stage import Settings, Stage

Say = Callable[[str], None]
"""Called with each line of progress."""


@dataclass(slots=True)
class Outcome:
    """The results of a scenario: samples by label, in the order of the rounds, and gaps."""

    scenario: Scenario
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def carry_out(scenario: Scenario, directory: Path, settings: Settings, say: Say) -> Outcome:
    """Set up the stage, run all cases in turns, and clean up."""
    outcome = Outcome(scenario)
    with Stage(directory, settings) as stage:
        plans = [Plan(stage)]
        if settings.old is not None:
            plans.append(Plan(stage.with_tree(settings.old), OLD))
        for plan in plans:
            scenario.prepare(plan)
            outcome.left_out |= plan.left_out
            outcome.failed |= plan.failed
        take_turns(paired(*(plan.cases for plan in plans)), scenario, settings, outcome, say)
    return outcome


def paired(cases: list[Case], old: Iterable[Case] = ()) -> list[Case]:
    """Return all cases, each followed by that of the old tree if there is one."""
    same = {case.label: case for case in old}
    pairs = ((case, same.get(case.label + OLD)) for case in cases)
    return [case for pair in pairs for case in pair if case is not None]


def take_turns(
    cases: list[Case], scenario: Scenario, settings: Settings, outcome: Outcome, say: Say
) -> None:
    """Fill the outcome. A case that fails once is dropped, with the reason noted."""
    for case in cases:
        if case.warms_up:
            say(f"{scenario.name}: warming up: {case.label}")
            _attempt(case, settings.warm_up_seconds, outcome)
    for number in range(1 if scenario.is_run_once else settings.rounds):
        for case in cases:
            if case.label in outcome.failed:
                continue
            sample = _attempt(case, settings.seconds, outcome)
            if sample is not None:
                outcome.samples.setdefault(case.label, []).append(sample)
                figure = sample[scenario.compared]
                say(f"{scenario.name} {number + 1}: {case.label}: {figure:.4g} {scenario.compared}")


def _attempt(case: Case, seconds: int, outcome: Outcome) -> Sample | None:
    try:
        return case.run(seconds)
    except (BenchError, OSError) as error:
        outcome.failed[case.label] = str(error) or repr(error)
        outcome.samples.pop(case.label, None)
        return None
