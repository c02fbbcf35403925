"""sidecar.yaml(5): every key of the configuration, from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.cli.new_configuration import Answers, write_configuration
from sidecar.cli.roff import bold, italic, literal, paragraph

Schema = Mapping[str, Any]


def write_configuration_manual(schema: Schema, written: str) -> Iterator[str]:
    """Yield the lines of the page; ``written`` is its date."""
    yield f'.TH SIDECAR.YAML 5 {written} auth\\-sidecar "File Formats"'
    yield from (".nr HY 0", ".nh", ".ad l")
    yield from (".SH NAME", r"sidecar.yaml \- configuration of sidecar(1)")
    yield ".SH DESCRIPTION"
    yield from paragraph(
        "A file in YAML. Durations are written 500ms, 3s, 5m, 1h, 14d; sizes 16KiB, 1MiB. Any "
        "string may hold ${NAME}, ${NAME:-default} or ${file:path}. Relative paths start at the "
        "directory of the file. `sidecar check` lists every mistake with its line and column; a "
        "running sidecar takes up what changes, unless it says that a restart is needed."
    )
    yield from (".SH EXAMPLE", "What \\fBsidecar init\\fR writes:", ".PP")
    answers = Answers(signs=True, password_hash="$argon2id$…", key_id="k1")  # noqa: S106 - no hash
    yield from literal(iter(write_configuration(answers).splitlines()))
    yield ".SH KEYS"
    yield from paragraph("NAME stands for a name of your own, [] for each item of a list.")
    for key, node in schema["properties"].items():
        yield f'.SS "{key}"'
        default = _default_of(node)
        about = _description_of(node, schema) or ""
        yield from paragraph(f"{about} Default: {default}." if default else about)
        for path, below, is_required in _keys_below(node, schema, key):
            yield from _key(path, below, schema, is_required)
    yield from (".SH SEE ALSO", r"\fBsidecar\fR(1)")


def _key(path: str, node: Schema, schema: Schema, is_required: bool) -> Iterator[str]:
    about = _description_of(node, schema)
    default = _default_of(node)
    needed = " (needed)" if is_required else f" (default: {default})" if default else ""
    yield ".TP"
    yield f"{bold(path)}{italic(needed)}" if needed else bold(path)
    yield from paragraph(about or "See the keys below it.")


def _keys_below(node: Schema, schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """Yield each key below a node with its path, and whether it must be there."""
    for part, suffix in _parts(node, schema):
        for key, below in part.get("properties", {}).items():
            place = f"{path}{suffix}.{key}"
            yield place, below, key in part.get("required", ())
            yield from _keys_below(below, schema, place)


def _parts(node: Schema, schema: Schema, suffix: str = "") -> Iterator[tuple[Schema, str]]:
    """Yield what a value may be, as far as it has keys, with what stands before them."""
    node = _resolved(node, schema)
    if "properties" in node:
        yield node, suffix
    for choice in node.get("anyOf", ()):
        yield from _parts(choice, schema, suffix)
    for below in node.get("patternProperties", {}).values():
        yield from _parts(below, schema, f"{suffix}.NAME")
    if "items" in node:
        yield from _parts(node["items"], schema, f"{suffix}[]")


def _resolved(node: Schema, schema: Schema) -> Schema:
    """Return a node with what it refers to; its own words come first."""
    reference = node.get("$ref")
    if reference is None:
        return node
    return {**schema["$defs"][reference.rpartition("/")[2]], **node}


def _description_of(node: Schema, schema: Schema) -> str | None:
    text: str | None = _resolved(node, schema).get("description")
    return text


def _default_of(node: Schema) -> str:
    default = node.get("default")
    if default is None or default in ([], {}, ""):
        return ""
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
