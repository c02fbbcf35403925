"""Whether a build compiles: what ``SIDECAR_COMPILE`` and the machine say."""

from __future__ import annotations

import pytest

from builder.choice import Choice, ChoiceError, choose, choose_for_editing

OBSTACLE = "there is no C compiler"
WHEELS = [
    ("", "", Choice(compiles=True)),
    (None, "", Choice(compiles=True)),
    (None, OBSTACLE, Choice(compiles=False, obstacle=OBSTACLE)),
    ("1", "", Choice(compiles=True, is_forced=True)),
    ("0", "", Choice(compiles=False, is_forced=True)),
    ("0", OBSTACLE, Choice(compiles=False, is_forced=True)),
]
REFUSED = [
    ("1", OBSTACLE, f"SIDECAR_COMPILE=1, but this can't be compiled here: {OBSTACLE}"),
    ("yes", "", "SIDECAR_COMPILE=yes means nothing: 1 compiles, 0 does not"),
]


def environment(value: str | None) -> dict[str, str]:
    return {} if value is None else {"SIDECAR_COMPILE": value}


@pytest.mark.parametrize(("value", "obstacle", "expected"), WHEELS)
def test_a_wheel_is_compiled_wherever_it_can_be_unless_it_is_forbidden(
    value: str | None, obstacle: str, expected: Choice
) -> None:
    assert choose(environment(value), lambda: obstacle) == expected


@pytest.mark.parametrize("choose_here", [choose, choose_for_editing])
@pytest.mark.parametrize(("value", "obstacle", "message"), REFUSED)
def test_what_cant_be_done_or_means_nothing_is_refused_in_one_line(
    choose_here: object, value: str, obstacle: str, message: str
) -> None:
    assert callable(choose_here)
    with pytest.raises(ChoiceError) as raised:
        choose_here(environment(value), lambda: obstacle)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("value", "compiles"), [(None, False), ("", False), ("0", False), ("1", True)]
)
def test_an_editable_install_is_plain_unless_it_is_asked_for_more(
    value: str | None, compiles: bool
) -> None:
    assert choose_for_editing(environment(value), lambda: "").compiles is compiles
