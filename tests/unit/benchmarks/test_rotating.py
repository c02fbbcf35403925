"""A load of tokens in turn: where it goes on, and what is counted of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.scenarios.rotating import Rotation
from benchmarks.stage import Settings, Stage
from benchmarks.wrk import Load, Result

RUNNING = Running(0, ())


class FakeStage:
    """Answers 70 requests in each span, and notes what was asked of it."""

    settings = Settings(settle_seconds=6.0)

    def __init__(self) -> None:
        self.spans: list[tuple[int, float]] = []

    def load(
        self, running: Running, load: Load, seconds: int, settle_seconds: float = 0.0
    ) -> tuple[Sample, Result]:
        self.spans.append((load.first_token, settle_seconds))
        return {}, Result(70, float(seconds), 1.0, 2.0, 0, 0)


def rotate(spans: int, **load: Any) -> list[tuple[int, float]]:
    stage = FakeStage()
    rotation = Rotation(cast(Stage, stage), RUNNING, Load(tokens=Path("tokens"), **load), 100)
    for _ in range(spans):
        rotation(1)
    return stage.spans


def test_a_span_begins_behind_the_last_token_sent() -> None:
    first, second, third = (token for token, _ in rotate(3, connections=10))

    assert (first, second, third) == (1, 81, 61)


@pytest.mark.parametrize(("is_refused", "expected"), [(False, 6.0), (True, 0.0)])
def test_what_is_written_after_the_load_is_waited_for(is_refused: bool, expected: float) -> None:
    ((_, waited),) = rotate(1, is_refused=is_refused)

    assert waited == expected
