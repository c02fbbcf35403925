"""A Python whose regular expressions are broken serves nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sidecar.core import targets
from sidecar.core.errors import UsageError
from sidecar.core.self_check import QUESTIONS, refuse_broken_re
from sidecar.runtime import run as run_command
from sidecar.runtime import serve as serving


def test_this_python_answers_every_question_rightly() -> None:
    refuse_broken_re()


@pytest.mark.parametrize("at", range(len(QUESTIONS)))
def test_each_question_alone_is_enough_to_refuse(at: int) -> None:
    asked, ask, _ = QUESTIONS[at]
    others = [*QUESTIONS[:at], (asked, ask, "something else"), *QUESTIONS[at + 1 :]]
    with pytest.raises(UsageError) as refused:
        refuse_broken_re(others)
    assert asked in str(refused.value)


def test_an_re_that_misses_a_dot_segment_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a possessive repeat around a look-ahead did not see it on Python 3.11.2."""
    if not str(targets.__file__).endswith(".py"):
        pytest.skip("compiled, its globals can't be replaced")
    monkeypatch.setattr(targets, "_DOT_FIRST", "nothing like it")
    with pytest.raises(UsageError, match=r"misjudges the target /\.;"):
        refuse_broken_re()


def test_the_questions_come_before_anything_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UsageError("broken")

    for module in (serving, run_command):
        monkeypatch.setattr(module, "refuse_broken_re", refuse)
    nothing = SimpleNamespace()
    for begun in (serving.serve(nothing), run_command._try_out(nothing, set())):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="broken"):
            begun.send(None)
