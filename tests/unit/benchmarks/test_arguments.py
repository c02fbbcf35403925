"""The bench's options and amounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import trees
from benchmarks.__main__ import main, parse_arguments, prepare_places, settings_of
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios.registry import SCENARIOS
from benchmarks.stage import Settings


def test_without_options_every_scenario_and_every_peer_is_run_seven_times() -> None:
    arguments = parse_arguments([])

    assert arguments.only == tuple(SCENARIOS)
    assert settings_of(arguments) == Settings(rounds=7, seconds=5, peers=tuple(PEERS))


def test_scenarios_peers_rounds_and_seconds_can_be_chosen() -> None:
    arguments = parse_arguments(
        ["--only", "hit,miss", "--peers", "sidecar,nginx", "--rounds", "3", "--seconds", "2"]
    )

    assert arguments.only == ("hit", "miss")
    assert settings_of(arguments) == Settings(rounds=3, seconds=2, peers=("sidecar", "nginx"))


def an_old_tree(directory: Path) -> Path:
    (directory / "sidecar").mkdir(parents=True)
    (directory / "sidecar" / "__main__.py").touch()
    return directory


def test_an_old_tree_is_compared_with_the_sidecar_alone_in_nine_rounds(tmp_path: Path) -> None:
    settings = settings_of(parse_arguments(["--old", str(an_old_tree(tmp_path))]))

    assert settings.old == trees.find(tmp_path)
    assert (settings.peers, settings.rounds) == (("sidecar",), 9)
    assert settings.tree.form == settings.old.form == "interpreted"


def test_with_an_old_tree_other_peers_and_rounds_can_be_chosen(tmp_path: Path) -> None:
    given = ["--old", str(an_old_tree(tmp_path)), "--peers", "sidecar,nginx", "--rounds", "3"]
    settings = settings_of(parse_arguments(given))

    assert (settings.peers, settings.rounds) == (("sidecar", "nginx"), 3)


def test_a_check_of_two_trees_is_tiny_too(tmp_path: Path) -> None:
    settings = settings_of(parse_arguments(["--check", "--old", str(an_old_tree(tmp_path))]))

    assert settings.rounds == 1


def test_an_old_tree_that_is_none_is_known_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--old", str(tmp_path)]) == 2

    assert "nothing was measured" in capsys.readouterr().err


def test_a_check_makes_everything_tiny() -> None:
    settings = settings_of(parse_arguments(["--check"]))

    assert settings.rounds == 1
    assert settings.many_tokens < Settings().many_tokens


@pytest.mark.parametrize("option", ["--only", "--peers"])
def test_a_name_that_does_not_exist_is_refused_with_those_that_do(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments([option, "nothing"])

    assert ended.value.code == 2
    assert "no nothing; there are " in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rounds", "--runs", "--seconds"])
@pytest.mark.parametrize("given", ["0", "-1", "1.5", "x"])
def test_none_of_something_is_refused(
    option: str, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments([f"{option}={given}"])

    assert ended.value.code == 2
    assert "at least 1" in capsys.readouterr().err


def test_directories_for_the_results_are_made(tmp_path: Path) -> None:
    output = tmp_path / "results" / "today.json"

    assert prepare_places(output, tmp_path / "plots") == output

    assert [path.name for path in sorted(tmp_path.iterdir())] == ["plots", "results"]
    assert not output.exists()


def test_results_that_can_not_be_written_are_known_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("kept")

    assert main(["--output", str(file / "today.json")]) == 2

    assert "nothing was measured" in capsys.readouterr().err
    assert file.read_text() == "kept"
