"""What follows from other files is up to date, and the values are described once and wholly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml

import sidecar
from tests.chart.generated_files import (
    README,
    SCHEMA,
    TABLE,
    VALUES,
    described_values,
    generated_files,
)
from tests.chart.rendering import CHART, SETS
from tests.proxy_process import ROOT

VALUES_TREE = yaml.safe_load(VALUES.read_text())
SCHEMA_TREE = json.loads(SCHEMA.read_text())
WHOLE = {"config", "resources", "strategy"}
"""Values that are described as a whole, though they have members."""


def test_what_make_chart_writes_is_written() -> None:
    old = [
        str(path.relative_to(ROOT)) for path, text in generated_files() if path.read_text() != text
    ]
    assert old == [], "run `make chart`"


def leaves_of(tree: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each value that is not a group of values."""
    described = {row.path for row in described_values()}
    for name, value in tree.items():
        inner = f"{path}.{name}".removeprefix(".")
        if isinstance(value, dict) and inner not in described:
            yield from leaves_of(value, inner)
        else:
            yield inner


def test_every_value_is_described() -> None:
    assert sorted(leaves_of(VALUES_TREE)) == sorted(row.path for row in described_values())


def test_the_readme_lists_every_value() -> None:
    table = README.read_text().partition(TABLE)[2]
    listed = re.findall(r"^\| `([\w.]+)` \|", table, re.M)
    assert listed == [row.path for row in described_values()]


def test_the_schema_has_every_value_and_no_other() -> None:
    for row in described_values():
        part = SCHEMA_TREE
        for step in row.path.split("."):
            assert part["additionalProperties"] is False
            part = part["properties"][step]
    assert sorted(SCHEMA_TREE["properties"]) == sorted(VALUES_TREE)


def test_the_schema_is_one_and_accepts_the_defaults_and_every_set() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA_TREE)
    for values in (VALUES_TREE, *(yaml.safe_load(path.read_text()) for path in SETS.values())):
        jsonschema.Draft7Validator(SCHEMA_TREE).validate(values)


def patterns_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(pattern := node.get("pattern"), str):
            yield pattern
        yield from node.get("patternProperties", {})
        node = list(node.values())
    for entry in node if isinstance(node, list) else []:
        yield from patterns_of(entry)


def test_patterns_are_those_that_go_can_read() -> None:
    """Helm refuses every value if one pattern has a look-around or too many repetitions."""
    patterns = [*patterns_of(SCHEMA_TREE)]
    assert len(patterns) > 30
    for pattern in patterns:
        assert not re.search(r"\(\?[=!<]|[*+}?]\+|\(\?>", pattern), pattern
        assert max(map(int, re.findall(r"\{\d*,?(\d+)\}", pattern)), default=0) <= 1000, pattern


def test_the_chart_and_the_sidecar_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == sidecar.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", chart["version"])


def test_lines_of_the_readme_are_short_except_rows_of_tables() -> None:
    lines = README.read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", README.read_text())
    assert links
    assert [link for link in links if "://" not in link and not (CHART / link).exists()] == []
