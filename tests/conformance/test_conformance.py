"""The tables, played one case at a time on one stage."""

from __future__ import annotations

import pytest

from tests.conformance import (
    answers,
    credentials,
    framing,
    identity,
    leaks,
    passwords,
    readings,
    target,
    upstream,
)
from tests.conformance.case import Case
from tests.conformance.oracle import play
from tests.conformance.stage import Stage

CASES = [
    case
    for table in (
        *(framing, identity, target, readings, credentials, passwords, upstream, answers, leaks),
    )
    for case in table.CASES
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case, stage: Stage) -> None:
    play(case, stage)


def test_no_case_is_named_twice() -> None:
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
