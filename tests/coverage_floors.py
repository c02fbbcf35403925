"""Compares the branch coverage that ``make test`` measured with the floor of each package.

``python -m tests.coverage_floors`` reads ``.coverage`` and prints one line a package; it exits with
1 if one of them is below its floor. The floors are in setup.cfg (``branch_coverage``), in percent
of lines and branches together, as coverage.py counts them. They only go up: raise one when the
tests have become better, and write the missing test when one fails.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def read_floors(configuration: Path = ROOT / "setup.cfg") -> dict[str, int]:
    """Return the floor (percent) of each package of ``sidecar`` that has one."""
    parser = ConfigParser(interpolation=None)
    parser.read(configuration, encoding="utf-8")
    return {package: int(floor) for package, floor in parser["branch_coverage"].items()}


def measured(package: str) -> float:
    """Return the coverage (percent) of a package, of what was measured last.

    Raises ``coverage.CoverageException`` if nothing was measured.
    """
    from coverage import Coverage  # here, as only `make test` needs it

    data = Coverage()
    data.load()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        return data.report(include=[f"sidecar/{package}/*"], file=nowhere)


def judge(found: Mapping[str, float], floors: Mapping[str, int]) -> tuple[bool, str]:
    """Tell whether every package reaches its floor, and a table that says so."""
    lines, is_reached = [], True
    for package, floor in floors.items():
        percent = math.floor(found[package] * 10) / 10  # never rounded up to the floor
        verdict = "" if percent >= floor else f"  BELOW ITS FLOOR of {floor} %"
        is_reached = is_reached and not verdict
        lines.append(f"branch coverage of {package:<8}{percent:5.1f} %{verdict}")
    return is_reached, "\n".join(lines)


def main() -> int:
    """Return the exit status. Compiled modules can't be measured: then there is nothing to say."""
    if any((ROOT / "sidecar").rglob("*.so")):
        print("Branch coverage is not compared with its floors: modules are compiled.")
        return 0
    floors = read_floors()
    is_reached, table = judge({package: measured(package) for package in floors}, floors)
    print(table)
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
