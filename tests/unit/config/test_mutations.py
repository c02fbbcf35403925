"""Loading any file gives settings or diagnostics with positions, and nothing else."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.config.load import load
from sidecar.core.errors import ConfigurationError

EXAMPLE = Path(__file__).resolve().parents[3] / "config" / "sidecar.yaml"
VALUES: list[Any] = [
    None, True, False, 0, -1, 3, 10**30, 1.5, "", "x", "a b", "\n", "${", "${X}", "${file:.}", "é",
    "\x85", [], [None], ["x"], [[]], {}, {"x": 1}, {"x": {"y": []}}, {1: 2}, {"": None},
]  # fmt: skip
WHOLE = re.sub(
    r"^( *)# (?=[ ]*(- )?(?!jwks_file)\w+:( |$))",
    r"\1",
    EXAMPLE.read_text().partition("\n\n")[2],
    flags=re.M,
)
"""The example with every key switched on."""


def outcome(path: Path, content: bytes) -> list[str]:
    """Return the problems of ``content``, each of which has the form that is promised."""
    problems = problems_of(path, content)
    for problem in problems:
        assert re.match(re.escape(str(path)) + r":\d+:\d+: \S", problem)
        assert len(problem.splitlines()) == 1
        assert "hunter2" not in problem
    return problems


def problems_of(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    try:
        load(path, {"X": "hunter2"})
    except ConfigurationError as error:
        return error.problems or ["a refusal without a reason"]
    return []


def containers(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict | list):
        if tree:
            yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from containers(value)


def drop_key(container: Any, key: Any, choose: random.Random) -> None:
    del container[key]


def retype_value(container: Any, key: Any, choose: random.Random) -> None:
    container[key] = copy.deepcopy(choose.choice(VALUES))


def misspell_key(container: Any, key: Any, choose: random.Random) -> None:
    if isinstance(container, dict):
        name = str(key)
        at = choose.randrange(len(name) + 1)
        container[name[:at] + choose.choice("xe_ -:\t") + name[at + 1 :]] = container.pop(key)


def swap_values(container: Any, key: Any, choose: random.Random) -> None:
    other = choose.choice(list(container) if isinstance(container, dict) else range(len(container)))
    container[key], container[other] = container[other], container[key]


MUTATIONS: list[Callable[[Any, Any, random.Random], None]] = [
    drop_key, retype_value, misspell_key, swap_values,
]  # fmt: skip


def mutated(seed: int) -> bytes:
    choose = random.Random(seed)
    tree = yaml.safe_load(choose.choice([WHOLE, EXAMPLE.read_text()]))
    for _ in range(choose.randint(1, 4)):
        container = choose.choice(list(containers(tree)))
        key = choose.choice(
            list(container) if isinstance(container, dict) else range(len(container))
        )
        choose.choice(MUTATIONS)(container, key, choose)
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode()


def flipped(seed: int) -> bytes:
    choose = random.Random(seed)
    content = bytearray(choose.choice([WHOLE, EXAMPLE.read_text()]).encode())
    for _ in range(choose.randint(1, 5)):
        content[choose.randrange(len(content))] = choose.randrange(256)
    return bytes(content)


@pytest.mark.parametrize("batch", range(2))
@pytest.mark.parametrize("mutate", [mutated, flipped])
def test_five_hundred_mutated_copies_give_settings_or_problems(
    tmp_path: Path, mutate: Callable[[int], bytes], batch: int
) -> None:
    found = [outcome(tmp_path / "sidecar.yaml", mutate(batch * 250 + n)) for n in range(250)]
    assert any(found), "some copies have problems"
    assert not all(found), "and some are valid still"


def test_the_example_with_every_key_has_only_the_problems_of_its_missing_files(
    tmp_path: Path,
) -> None:
    problems = outcome(tmp_path / "sidecar.yaml", WHOLE.encode())
    assert problems
    for problem in problems:
        assert re.search(
            r"no such file|names a file that does not exist|url of this upstream is not https",
            problem,
        )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_bytes_of_any_kind_give_settings_or_problems(tmp_path: Path, content: bytes) -> None:
    outcome(tmp_path / "sidecar.yaml", content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab:-?[]{},&*!|>'\"%@`#<$ \n\t0.~é", max_size=60))
def test_texts_made_of_what_means_something_in_yaml_give_settings_or_problems(
    tmp_path: Path, text: str
) -> None:
    outcome(tmp_path / "sidecar.yaml", text.encode())
