"""Runs a module of the bench in a process of its own: its order and its result are JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from benchmarks.processes import BenchError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_ROOT: Final = Path(__file__).resolve().parents[1]
_SAME: Final[Mapping[str, str]] = MappingProxyType({})


def run_apart(
    module: str, order: DataclassInstance, cores: str, environment: Mapping[str, str] = _SAME
) -> dict[str, Any]:
    """Run ``module`` on the given processors; return the fields of its result.

    Raises ``BenchError`` with the last line that it wrote to standard error, if it failed.
    """
    finished = subprocess.run(
        ["taskset", "-c", cores, sys.executable, "-m", module],
        input=json.dumps(asdict(order)),
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
        env={**os.environ, **environment},
    )
    if finished.returncode != 0:
        raise BenchError((finished.stderr.strip().splitlines() or ["the load ended"])[-1])
    fields: dict[str, Any] = json.loads(finished.stdout)
    return fields


def carry_out(work: Callable[[dict[str, Any]], DataclassInstance]) -> int:
    """Do the ``work`` that standard input orders, in such a process; return its exit status."""
    try:
        print(json.dumps(asdict(work(json.load(sys.stdin)))))
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
