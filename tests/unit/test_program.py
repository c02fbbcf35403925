"""What the program says of itself."""

from __future__ import annotations

import importlib.util
import platform
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from sidecar import __version__, program
from sidecar.core import tokens
from sidecar.program import describe_program, is_compiled

LOADERS = {"made_c" + EXTENSION_SUFFIXES[0]: True, "plain.py": False}


@pytest.mark.parametrize(("file", "expected"), LOADERS.items(), ids=LOADERS)
def test_it_is_compiled_if_the_extension_module_is_what_was_loaded(
    file: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    specification = importlib.util.spec_from_file_location("tokens", file)
    assert specification is not None
    monkeypatch.setattr(tokens, "__spec__", specification)
    assert is_compiled() is expected


@pytest.mark.parametrize(
    ("compiled", "form"), [(True, "compiled"), (False, "plain Python")], ids=["c", "python"]
)
def test_version_form_and_python_are_in_one_line(
    compiled: bool, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "is_compiled", lambda: compiled)
    assert describe_program() == f"{__version__} ({form}, CPython {platform.python_version()})"
