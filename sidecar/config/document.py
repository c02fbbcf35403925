"""Reads a YAML file into a tree whose values know their position; only a simple subset is accepted.

Values follow YAML 1.2: only ``true`` and ``false`` are booleans, only plain decimal numbers are
numbers, and everything else (``on``, ``12:30``, ``010``, a date) is text. Keys are always text.
Duplicate keys, tags, merge keys, anchors and aliases are refused. (Aliases can expand without
bound, and this file has little to repeat.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import yaml

from sidecar.config.diagnostics import Diagnostic, Rejected, shown
from sidecar.config.syntax_advice import explain

MAX_DEPTH = 32
"""More than twice what the deepest key needs; prevents a file from exhausting the stack."""
_TOO_DEEP: Final = f"nested more than {MAX_DEPTH} deep; make it flatter"

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,14})")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The C parser gives the same events and places, ten times faster.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Position: TypeAlias = tuple[int, int]
YamlValue: TypeAlias = (
    "str | int | float | bool | list[YamlNode] | dict[str, YamlNode] | Invalid | None"
)


class Invalid:
    """Replaces a value that already has a diagnostic, so that it gets no second one."""


class NoValue:
    """Replaces a missing value; unlike ``None``, no optional section accepts it."""


@dataclass(frozen=True, slots=True)
class YamlNode:
    """A value, its line and column (from 1), and for a mapping the positions of its keys."""

    value: YamlValue
    position: Position
    keys: dict[str, Position] = field(default_factory=dict)

    def at(self, *steps: str | int) -> YamlNode | None:
        """Return the node at a path of keys and indices; ``None`` if there is none."""
        node: YamlNode | None = self
        for step in steps:
            node = node._step(step) if node is not None else None
        return node

    def _step(self, step: str | int) -> YamlNode | None:
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def entries(self) -> dict[str, YamlNode]:
        """Return the entries of a mapping; an empty dict for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def items(self) -> list[YamlNode]:
        """Return the items of a list; an empty list for anything else."""
        return self.value if isinstance(self.value, list) else []

    def text(self) -> str | None:
        """Return the value if it is a string."""
        return self.value if isinstance(self.value, str) else None

    def plain(self) -> object:
        """Return the value as dicts, lists and scalars, with ``NoValue`` for missing values."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return NoValue() if self.value is None else self.value


class Unreadable(Exception):
    """The text is not YAML or not a single document: nothing after the position can be read."""

    def __init__(self, position: Position, text: str) -> None:
        super().__init__(text)
        self.problem = Diagnostic(*position, text)


def compose(text: str, substitute: Callable[[str], str]) -> tuple[YamlNode, list[Diagnostic]]:
    """Return the tree of the document in ``text``, and the diagnostics of its values.

    ``substitute`` is applied to every string value; its ``Rejected`` becomes a diagnostic. Raises
    ``Unreadable`` for a syntax error, and for anything but a single mapping.
    """
    _refuse_unprintable(text)
    composer = _Composer(text, substitute)
    try:
        return composer.document(), composer.problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise Unreadable(position, _syntax_problem(error, text, position)) from None
    except yaml.YAMLError:
        raise Unreadable(
            (1, 1), "this is not YAML; check its encoding and its first lines"
        ) from None


def _refuse_unprintable(text: str) -> None:
    found = _UNPRINTABLE.search(text)
    if found is not None:
        before = text[: found.start()]
        position = (before.count("\n") + 1, found.start() - before.rfind("\n"))
        raise Unreadable(position, f"YAML does not allow the character {found[0]!r}; remove it")


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, position: Position) -> str:
    lines = text.splitlines()
    line = lines[position[0] - 1] if position[0] <= len(lines) else ""
    if line[position[1] - 1 : position[1]] == "\t":
        return "a tab can't begin a token; indent with spaces"
    if "nesting depth" in str(error.problem):  # PyYAML has a limit of its own since 6.0.4
        return _TOO_DEEP
    return explain(error, lines)


class _Composer:
    """Builds nodes from parser events, recursively to at most ``MAX_DEPTH``."""

    def __init__(self, text: str, substitute: Callable[[str], str]) -> None:
        self.problems: list[Diagnostic] = []
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=_PARSER))
        self._substitute = substitute

    def document(self) -> YamlNode:
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise Unreadable((1, 1), "the file is empty; copy the example configuration")
        root = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise Unreadable(
                _position(following), "a second document begins here; keep one in the file"
            )
        if root.value is None:
            raise Unreadable((1, 1), "the file is empty; copy the example configuration")
        if not isinstance(root.value, dict | Invalid):
            raise Unreadable(
                root.position, "the file is not a mapping; write sections such as `listen:`"
            )
        return root

    def _node(self, event: yaml.Event, depth: int) -> YamlNode:
        if depth > MAX_DEPTH:
            raise Unreadable(_position(event), _TOO_DEEP)
        if isinstance(event, yaml.AliasEvent):
            return self._refuse(
                event,
                f"*{event.anchor}",
                "aliases are not supported; write the value out, or put a text in quotes",
            )
        node = self._plain_node(event, depth)
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            return node
        if event.tag is not None:
            return self._refuse(
                event, event.tag, "tags are not supported; remove it, or put a text in quotes"
            )
        if event.anchor is not None:
            self._refuse(
                event,
                f"&{event.anchor}",
                "anchors are not supported; remove it, or put a text in quotes",
            )
        return node

    def _refuse(self, event: yaml.Event, what: str, why: str) -> YamlNode:
        self.problems.append(Diagnostic(*_position(event), f"{shown(what)}: {why}"))
        return YamlNode(Invalid(), _position(event))

    def _plain_node(self, event: yaml.Event, depth: int) -> YamlNode:
        if isinstance(event, yaml.SequenceStartEvent):
            return YamlNode(list(self._items(depth + 1)), _position(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth + 1)
        value = self._scalar(event) if isinstance(event, yaml.ScalarEvent) else Invalid()
        return YamlNode(value, _position(event))

    def _items(self, depth: int) -> Iterator[YamlNode]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth)

    def _mapping(self, start: yaml.Event, depth: int) -> YamlNode:
        entries: dict[str, YamlNode] = {}
        keys: dict[str, Position] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            known = len(self.problems)
            node = self._node(next(self._events), depth)
            if key is None:
                del self.problems[known:]  # the key is refused, so its value is not checked
            elif key in entries:
                self._repeated(event, key, keys[key])
            else:
                entries[key], keys[key] = node, _position(event)
        return YamlNode(entries, _position(start), keys)

    def _key(self, event: yaml.Event, depth: int) -> str | None:
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                self._node(event, depth)
            text = "a key must be plain text; write `name: value`"
            self.problems.append(Diagnostic(*_position(event), text))
            return None
        if event.tag is not None or event.anchor is not None:
            self._refuse(event, event.value, "tags and anchors are not supported; remove it")
            return None
        if event.value == "<<" and event.implicit[0]:
            self._refuse(event, "<<", "merge keys are not supported; write the keys out")
            return None
        return str(event.value)

    def _repeated(self, event: yaml.Event, key: str, first: Position) -> None:
        text = f"the key {shown(key)} is already in line {first[0]}; keep one of the two"
        self.problems.append(Diagnostic(*_position(event), text))

    def _scalar(self, event: yaml.ScalarEvent) -> YamlValue:
        value = _resolve(event.value) if event.implicit[0] else event.value
        if not isinstance(value, str):
            return value
        try:
            return self._substitute(value)
        except Rejected as rejected:
            self.problems.append(Diagnostic(*_position(event), rejected.sentence()))
            return Invalid()


def _resolve(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar in YAML 1.2's core schema, without its unusual numbers."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
