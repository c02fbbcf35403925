"""The bench's options and amounts."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import parse_arguments, settings_of
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios.registry import SCENARIOS
from benchmarks.stage import Settings


def test_without_options_every_scenario_and_every_peer_is_run_seven_times() -> None:
    arguments = parse_arguments([])

    assert arguments.only == tuple(SCENARIOS)
    assert settings_of(arguments) == Settings(rounds=7, seconds=5, peers=tuple(PEERS))


def test_scenarios_peers_rounds_and_seconds_can_be_chosen() -> None:
    arguments = parse_arguments(
        ["--only", "hit,miss", "--peers", "sidecar,nginx", "--runs", "3", "--seconds", "2"]
    )

    assert arguments.only == ("hit", "miss")
    assert settings_of(arguments) == Settings(rounds=3, seconds=2, peers=("sidecar", "nginx"))


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
