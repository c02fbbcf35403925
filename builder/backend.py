"""The build backend (PEP 517): setuptools, and a wheel that is compiled wherever that can be done.

A wheel that can't be compiled is built as plain Python, which does the same at twice the CPU; one
line says why. Only ``SIDECAR_COMPILE=1`` makes that an error.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from typing import Any, NoReturn

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

from builder.choice import VARIABLE, Choice, ChoiceError, choose, choose_for_editing
from builder.compiled_path import COMPILED
from builder.wheel import WheelError, make_wheel

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

# A floor that the image is built with; another major version may take another Python.
COMPILER = "mypy>=2.4,<3"
_Options = Mapping[str, Any] | None


def get_requires_for_build_wheel(config_settings: _Options = None) -> list[str]:
    """Return what a build needs beside setuptools: the compiler, and what it reads types from."""
    needed = build_meta.get_requires_for_build_wheel(config_settings)
    return [*needed, *_needed_to_compile(choose)]


def get_requires_for_build_editable(config_settings: _Options = None) -> list[str]:
    """Return the same for an editable install."""
    needed = build_meta.get_requires_for_build_editable(config_settings)
    return [*needed, *_needed_to_compile(choose_for_editing)]


def build_wheel(
    wheel_directory: str, config_settings: _Options = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel, say in one line whether it is compiled, and return its name."""
    choice = _settle(choose)

    def make(compiles: bool) -> str:
        return make_wheel(
            wheel_directory,
            compiles=compiles,
            options=config_settings,
            metadata=metadata_directory,
        )

    obstacle = choice.obstacle
    if choice.compiles:
        started = time.monotonic()
        try:
            name = make(compiles=True)
        except WheelError as error:
            if choice.is_forced:
                _end(f"{VARIABLE}=1, but compiling failed: {error}")
            obstacle = f"compiling failed: {error}"
        else:
            _say(f"compiled: {len(COMPILED)} modules, {time.monotonic() - started:.0f} seconds")
            return name
    try:
        name = make(compiles=False)
    except WheelError as error:
        _end(str(error))
    _say(f"plain Python, {obstacle or f'as {VARIABLE}=0 asks for'}")
    return name


def build_editable(
    wheel_directory: str, config_settings: _Options = None, metadata_directory: str | None = None
) -> str:
    """Make an editable install: plain, unless ``SIDECAR_COMPILE=1`` asks for compiled modules."""
    choice = _settle(choose_for_editing)
    os.environ[VARIABLE] = "1" if choice.compiles else "0"
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    if choice.compiles:
        _say("compiled in place: an edit of a compiled module changes nothing until the next build")
    else:
        _say(f"plain Python, as it can be edited ({VARIABLE}=1 compiles in place)")
    return name


def _needed_to_compile(choose_here: Callable[[Mapping[str, str]], Choice]) -> list[str]:
    try:
        compiles = choose_here(os.environ).compiles
    except ChoiceError as error:
        _end(str(error))
    return [COMPILER, *_libraries()] if compiles else []


def _libraries() -> list[str]:
    """Return the libraries of the package: mypyc looks at their types."""
    configuration = ConfigParser(interpolation=None)
    configuration.read("setup.cfg", encoding="utf-8")
    lines = configuration["options"]["install_requires"].splitlines()
    return [line for line in lines if line]


def _settle(choose_here: Callable[[Mapping[str, str]], Choice]) -> Choice:
    """Return the choice, which without build isolation depends on what is installed, too."""
    try:
        choice = choose_here(os.environ)
    except ChoiceError as error:
        _end(str(error))
    if not choice.compiles or importlib.util.find_spec("mypyc") is not None:
        return choice
    missing = f"mypyc is not installed; without build isolation, install '{COMPILER}' first"
    if choice.is_forced:
        _end(f"{VARIABLE}=1, but {missing}")
    return Choice(compiles=False, obstacle=missing)


def _say(line: str) -> None:
    print(f"auth-sidecar: {line}", file=sys.stderr, flush=True)


def _end(line: str) -> NoReturn:
    sys.exit(f"auth-sidecar: {line}")
