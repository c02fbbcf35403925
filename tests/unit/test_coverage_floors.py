"""The floors of branch coverage that ``make test`` holds the packages to."""

from __future__ import annotations

from pathlib import Path

from tests.coverage_floors import judge, read_floors

FLOORS = {"auth": 95, "core": 99}


def test_the_packages_that_judge_and_forward_have_a_floor() -> None:
    floors = read_floors()
    assert {*floors} == {"auth", "core", "proxy", "store"}
    assert all(90 <= floor <= 100 for floor in floors.values())


def test_the_floors_are_read_from_their_own_section(tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text("[other]\nauth = 1\n[branch_coverage]\ncore = 99\n")
    assert read_floors(tmp_path / "setup.cfg") == {"core": 99}


def test_a_package_at_its_floor_passes() -> None:
    assert judge({"auth": 95.0, "core": 99.96}, FLOORS) == (
        True,
        "branch coverage of auth     95.0 %\nbranch coverage of core     99.9 %",
    )


def test_a_package_below_its_floor_fails_and_is_named_however_close_it_is() -> None:
    assert judge({"auth": 94.99, "core": 100.0}, FLOORS) == (
        False,
        "branch coverage of auth     94.9 %  BELOW ITS FLOOR of 95 %\n"
        "branch coverage of core    100.0 %",
    )
