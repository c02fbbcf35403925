"""The bench's table and its JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Sample
from benchmarks.rounds import Outcome
from benchmarks.scenarios import OLD, Scenario
from benchmarks.stage import Settings
from benchmarks.trees import Tree

SCENARIO = Scenario(
    "hit", "small calls", lambda _plan: None, columns=("cpu_us", "rate"), subjects=("ours",)
)


def an_outcome() -> Outcome:
    return Outcome(
        SCENARIO,
        samples={
            "ours": [{"cpu_us": 30.0, "rate": 20_000.0}, {"cpu_us": 40.0, "rate": 10_000.0}],
            "theirs": [{"cpu_us": 60.0, "rate": 12_345.6}, {"cpu_us": 80.0, "rate": 12_345.6}],
        },
        left_out={"other": "not installed"},
        failed={"broken": "answered 500"},
    )


def test_a_row_has_each_median_with_its_extremes_and_the_ratio_of_the_subject() -> None:
    (row,) = [line for line in report.table(an_outcome()).splitlines() if "theirs" in line]

    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "theirs",
        "70.0 (60.0–80.0)",
        "12 346",
        "0.50",
    ]


def test_the_subject_has_no_ratio_to_itself() -> None:
    (row,) = [line for line in report.table(an_outcome()).splitlines() if "| ours" in line[:7]]

    assert row.rstrip(" |").endswith("–")


def test_the_rows_of_a_table_are_aligned() -> None:
    rows = [line for line in report.table(an_outcome()).splitlines() if line.startswith("|")]

    assert len({len(row) for row in rows}) == 1


def test_what_was_left_out_and_what_failed_is_said_below() -> None:
    text = report.table(an_outcome())

    assert "- left out: other: not installed" in text
    assert "- FAILED: broken: answered 500" in text


def test_an_outcome_without_samples_says_so() -> None:
    assert "Nothing was measured." in report.table(Outcome(SCENARIO))


def test_a_figure_that_a_case_lacks_is_a_dash() -> None:
    outcome = Outcome(SCENARIO, samples={"ours": [{"cpu_us": 1.0}]})

    assert "| ours | 1.0" in report.table(outcome)
    assert "–" in report.table(outcome)


def a_comparison(*old: Sample) -> Outcome:
    ours: list[Sample] = [{"cpu_us": 30.0, "rate": 90.0}, {"cpu_us": 33.0, "rate": 80.0}]
    return Outcome(SCENARIO, samples={"ours": ours, "ours" + OLD: [*old], "nginx": ours})


def test_two_trees_are_compared_in_pairs_by_what_a_request_costs_and_by_the_rate() -> None:
    outcome = a_comparison({"cpu_us": 30.0, "rate": 100.0}, {"cpu_us": 30.0, "rate": 80.0})
    (row,) = [line for line in report.table(outcome).splitlines() if "1.050" in line]

    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "ours",
        "2",
        "1.050 (1.025–1.075)",
        "0.950 (0.925–0.975)",
    ]


def test_trees_are_also_compared_by_what_the_scenario_compares() -> None:
    sample = {"cpu_us": 30.0, "rate": 90.0, "p999_ms": 4.0}
    outcome = a_comparison({**sample, "p999_ms": 8.0})
    outcome.samples["ours"] = [sample]
    outcome.scenario = replace(SCENARIO, columns=tuple(sample), compared="p999_ms")

    (pair,) = report.as_json(outcome)["pairs"].values()
    assert {key: found["median"] for key, found in pair.items()} == {
        "cpu_us": 1.0,
        "rate": 1.0,
        "p999_ms": 0.5,
    }


def test_the_ratio_of_one_pair_is_its_own_quartiles() -> None:
    outcome = a_comparison({"cpu_us": 60.0, "rate": 30.0})

    assert "0.500 (0.500–0.500) | 3.000 (3.000–3.000)" in report.table(outcome)


def test_without_an_old_tree_nothing_is_said_of_pairs() -> None:
    assert "old" not in report.table(an_outcome())
    assert report.as_json(an_outcome())["pairs"] == {}


def test_a_scenario_without_a_rate_compares_trees_by_what_it_compares() -> None:
    outcome = a_comparison({"cpu_us": 15.0}, {"cpu_us": 16.5})
    outcome.scenario = replace(SCENARIO, columns=("cpu_us",))

    assert report.as_json(outcome)["pairs"] == {
        "ours": {"cpu_us": {"count": 2, "median": 2.0, "lower": 2.0, "upper": 2.0}}
    }


def test_the_circumstances_name_both_trees_and_their_form(tmp_path: Path) -> None:
    old = Tree(tmp_path, interpreted=tmp_path, compiled=None)
    heading = report.heading(report.circumstances(Settings(old=old)))

    assert f"old: {tmp_path}, interpreted" in heading


def test_the_json_has_every_sample_and_the_ratios() -> None:
    value = report.as_json(an_outcome())

    assert value["samples"]["ours"][1]["cpu_us"] == 40.0
    assert value["ratios"] == {"ours": {"theirs": {"median": 0.5, "least": 0.5, "most": 0.5}}}
    assert value["failed"] == {"broken": "answered 500"}
