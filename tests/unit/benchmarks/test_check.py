"""The bench itself works: tiny runs of it, with the parts that every machine of ours has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scenarios.registry import SCENARIOS

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.soak
def test_a_tiny_run_beside_another_tree_compares_each_case_of_the_two(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--check", "--only", "pipelined,unknown"]
    finished = subprocess.run(
        [*command, "--old", str(ROOT), "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    for outcome in json.loads(output.read_text())["outcomes"]:
        assert outcome["failed"] == {}
        assert len(outcome["samples"]) == 2 * len(outcome["pairs"]) > 0


@pytest.mark.soak
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_tiny_run_of_a_scenario_measures_the_sidecar_and_fails_nowhere(
    scenario: str, tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--check", "--only", scenario]
    finished = subprocess.run(
        [*command, "--peers", "sidecar,nginx", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    (outcome,) = json.loads(output.read_text())["outcomes"]
    assert outcome["failed"] == {}
    assert outcome["samples"] or outcome["left_out"]
