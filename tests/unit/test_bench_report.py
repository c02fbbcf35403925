"""The bench's table and its JSON."""

from __future__ import annotations

from benchmarks import report
from benchmarks.rounds import Outcome
from benchmarks.scenarios import Scenario

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


def test_the_json_has_every_sample_and_the_ratios() -> None:
    value = report.as_json(an_outcome())

    assert value["samples"]["ours"][1]["cpu_us"] == 40.0
    assert value["ratios"] == {"ours": {"theirs": {"median": 0.5, "least": 0.5, "most": 0.5}}}
    assert value["failed"] == {"broken": "answered 500"}
