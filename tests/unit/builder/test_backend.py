"""The build backend: what it asks for, what it builds, and the one line it says."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder import backend
from builder.choice import Choice, ChoiceError
from builder.wheel import WheelError

ROOT = Path(__file__).resolve().parents[3]
ABLE = Choice(compiles=True)
FORCED = Choice(compiles=True, is_forced=True)
FORBIDDEN = Choice(compiles=False, is_forced=True)
UNABLE = Choice(compiles=False, obstacle="there is no C compiler. Debian: apt-get install gcc")


@pytest.fixture(autouse=True)
def _in_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the source directory, as a front end has a backend do."""
    monkeypatch.chdir(ROOT)


def given(patch: pytest.MonkeyPatch, choice: Choice, failing: str = "") -> list[bool]:
    """Have the backend choose so; return a list that gets, for each build, whether it compiles."""
    builds: list[bool] = []

    def make(directory: str, *, compiles: bool, options: Any, metadata: str | None) -> str:
        builds.append(compiles)
        if compiles and failing:
            raise WheelError(failing)
        return "made.whl"

    patch.setattr(backend, "choose", lambda environment: choice)
    patch.setattr(backend, "make_wheel", make)
    patch.setattr(importlib.util, "find_spec", lambda name: name)
    return builds


@pytest.mark.parametrize(("choice", "asks"), [(ABLE, True), (FORCED, True), (UNABLE, False)])
def test_the_compiler_is_asked_for_only_where_it_will_be_used(
    choice: Choice, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, choice)
    needed = backend.get_requires_for_build_wheel()
    assert (backend.COMPILER in needed) is asks
    assert any(name.startswith("aiohttp>=") for name in needed) is asks


def test_the_image_pins_the_compiler_that_the_backend_asks_for() -> None:
    assert f"\n{backend.COMPILER.split(',')[0]} " in (
        ROOT / "deploy/image/requirements.in"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("choice", "failing", "builds", "line"),
    [
        (ABLE, "", [True], "compiled: "),
        (FORCED, "", [True], "compiled: "),
        (FORBIDDEN, "", [False], "plain Python, as SIDECAR_COMPILE=0 asks for\n"),
        (UNABLE, "", [False], f"plain Python, {UNABLE.obstacle}\n"),
        (
            ABLE,
            "gcc: fatal error: Killed",
            [True, False],
            "plain Python, compiling failed: gcc: fatal error: Killed\n",
        ),
    ],
    ids=["able", "forced", "forbidden", "unable", "failing"],
)
def test_one_line_says_what_was_built_and_why(
    choice: Choice,
    failing: str,
    builds: list[bool],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    built = given(monkeypatch, choice, failing)
    assert backend.build_wheel("anywhere") == "made.whl"
    assert built == builds
    said = capsys.readouterr().err
    assert said.startswith(f"auth-sidecar: {line}")
    assert said.count("\n") == 1


def test_a_forced_build_that_fails_ends_with_one_message_and_no_wheel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = given(monkeypatch, FORCED, "a.py:1: error: wrong")
    with pytest.raises(SystemExit) as ended:
        backend.build_wheel("anywhere")
    assert ended.value.code == (
        "auth-sidecar: SIDECAR_COMPILE=1, but compiling failed: a.py:1: error: wrong"
    )
    assert built == [True]


@pytest.mark.parametrize(
    "hook",
    [
        backend.get_requires_for_build_wheel,
        backend.get_requires_for_build_editable,
        lambda: backend.build_wheel("anywhere"),
        lambda: backend.build_editable("anywhere"),
    ],
    ids=["requires", "requires-editable", "wheel", "editable"],
)
def test_a_choice_that_cant_be_had_ends_every_hook_without_a_traceback(
    hook: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(environment: object) -> Choice:
        raise ChoiceError("SIDECAR_COMPILE=2 means nothing")

    monkeypatch.setattr(backend, "choose", refuse)
    monkeypatch.setattr(backend, "choose_for_editing", refuse)
    with pytest.raises(SystemExit) as ended:
        hook()
    assert ended.value.code == "auth-sidecar: SIDECAR_COMPILE=2 means nothing"


def test_without_mypyc_and_without_isolation_the_build_is_plain_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = given(monkeypatch, ABLE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    backend.build_wheel("anywhere")
    assert built == [False]
    assert f"install '{backend.COMPILER}' first" in capsys.readouterr().err


def test_without_mypyc_a_forced_build_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, FORCED)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        backend.build_wheel("anywhere")
    assert "mypyc is not installed" in str(ended.value.code)


@pytest.mark.parametrize(("value", "asked"), [("", "0"), ("0", "0"), ("1", "1")])
def test_an_editable_install_is_compiled_only_if_that_is_asked_for(
    value: str, asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def build(*arguments: object) -> str:
        seen.append(os.environ["SIDECAR_COMPILE"])
        return "made.whl"

    given(monkeypatch, ABLE)
    monkeypatch.setattr("builder.choice.find_obstacle", lambda: "")
    monkeypatch.setenv("SIDECAR_COMPILE", value)
    monkeypatch.setattr("setuptools.build_meta.build_editable", build)
    assert backend.build_editable("anywhere") == "made.whl"
    assert seen == [asked]
    assert capsys.readouterr().err.count("\n") == 1
