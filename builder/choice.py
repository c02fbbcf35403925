"""Decides whether a build compiles: ``SIDECAR_COMPILE``, or else whether it can be done here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from builder.toolchain import find_obstacle

VARIABLE = "SIDECAR_COMPILE"


class ChoiceError(Exception):
    """What ``SIDECAR_COMPILE`` asks for can't be done, or can't be understood."""


@dataclass(frozen=True)
class Choice:
    """Whether to compile; ``obstacle`` says why not, where nobody has decided."""

    compiles: bool
    is_forced: bool = False
    obstacle: str = ""


def choose(
    environment: Mapping[str, str], find_obstacle: Callable[[], str] = find_obstacle
) -> Choice:
    """Return the choice for a wheel. An empty variable is an unset one.

    Raises ``ChoiceError`` if the variable has a value that means nothing, or if it asks for what
    can't be done here.
    """
    wanted = environment.get(VARIABLE, "")
    if wanted not in ("", "0", "1"):
        raise ChoiceError(f"{VARIABLE}={wanted} means nothing: 1 compiles, 0 does not")
    if wanted == "0":
        return Choice(compiles=False, is_forced=True)
    obstacle = find_obstacle()
    if obstacle and wanted:
        raise ChoiceError(f"{VARIABLE}=1, but this can't be compiled here: {obstacle}")
    return Choice(not obstacle, is_forced=bool(wanted), obstacle=obstacle)


def choose_for_editing(
    environment: Mapping[str, str], find_obstacle: Callable[[], str] = find_obstacle
) -> Choice:
    """Return the choice for an editable install: plain, unless the variable asks for more.

    A compiled module hides its source, so an edit would change nothing until the next build.
    """
    if environment.get(VARIABLE, "") == "":
        return Choice(compiles=False)
    return choose(environment, find_obstacle)
