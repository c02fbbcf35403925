"""The order of the bench's runs, and what becomes of a case that fails."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.measure import Sample
from benchmarks.processes import BenchError
from benchmarks.rounds import Outcome, paired, take_turns
from benchmarks.scenarios import OLD, Case, Scenario
from benchmarks.stage import Settings

SETTINGS = Settings(rounds=2, seconds=5, warm_up_seconds=1)
SCENARIO = Scenario("hit", "", lambda _plan: None, subjects=())


def silent(_line: str) -> None:
    pass


def noting(log: list[str], name: str) -> Callable[[int], Sample]:
    def run(seconds: int) -> Sample:
        log.append(f"{name}{seconds}")
        return {"cpu_us": float(seconds)}

    return run


def failing(_seconds: int) -> Sample:
    raise BenchError("answered 500")


def test_cases_are_warmed_up_and_then_take_turns() -> None:
    log: list[str] = []
    cases = [Case("a", noting(log, "a")), Case("b", noting(log, "b"))]

    take_turns(cases, SCENARIO, SETTINGS, Outcome(SCENARIO), silent)

    assert log == ["a1", "b1", "a5", "b5", "a5", "b5"]


def test_each_case_of_ours_is_followed_by_that_of_the_old_tree() -> None:
    ours = [Case(name, failing) for name in ("a", "b", "new")]
    old = [Case(name + OLD, failing) for name in ("b", "a", "gone")]

    labels = [case.label for case in paired(ours, old)]

    assert labels == ["a", "a" + OLD, "b", "b" + OLD, "new"]


def test_without_an_old_tree_the_cases_are_ours() -> None:
    ours = [Case("a", failing), Case("b", failing)]

    assert paired(ours) == ours


def test_what_a_warm_up_gave_is_no_sample() -> None:
    outcome = Outcome(SCENARIO)

    take_turns([Case("a", noting([], "a"))], SCENARIO, SETTINGS, outcome, silent)

    assert outcome.samples == {"a": [{"cpu_us": 5.0}, {"cpu_us": 5.0}]}


def test_a_case_that_needs_no_warm_up_gets_none() -> None:
    log: list[str] = []

    take_turns(
        [Case("a", noting(log, "a"), warms_up=False)], SCENARIO, SETTINGS, Outcome(SCENARIO), silent
    )

    assert log == ["a5", "a5"]


def test_a_scenario_that_is_run_once_has_one_round() -> None:
    log: list[str] = []
    once = Scenario("once", "", lambda _plan: None, is_run_once=True)

    take_turns([Case("a", noting(log, "a"))], once, SETTINGS, Outcome(once), silent)

    assert log == ["a1", "a5"]


def test_a_case_that_fails_is_dropped_with_its_reason_and_the_others_go_on() -> None:
    log: list[str] = []
    outcome = Outcome(SCENARIO)

    take_turns(
        [Case("bad", failing), Case("a", noting(log, "a"))], SCENARIO, SETTINGS, outcome, silent
    )

    assert outcome.failed == {"bad": "answered 500"}
    assert "bad" not in outcome.samples
    assert log == ["a1", "a5", "a5"]
