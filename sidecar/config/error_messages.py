"""Turns the model's validation errors into diagnostics for people who edit the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.config.diagnostics import Diagnostic, Rejected, near_miss, shown
from sidecar.config.document import Invalid, NoValue, Position, YamlNode
from sidecar.config.settings import Section, Settings
from sidecar.config.substitution import Substituted, literal_name
from sidecar.core.account_names import is_account_name

Step = str | int

_KEY = "[key]"  # pydantic's mark for the key of a mapping instead of its value
_EXPECTED = {
    "model_type": "a mapping of `key: value`",
    "dict_type": "a mapping of `key: value`",
    "mapping_type": "a mapping of `key: value`",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
}
_KINDS: list[tuple[type, str]] = [
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
]


def describe(error: ValidationError, root: YamlNode) -> list[Diagnostic]:
    """Return one diagnostic for each mistake in ``error``, with its position in ``root``.

    Consequences of other mistakes are left out: a key that is missing because it is misspelt, a
    list that is empty because its entries are wrong.
    """
    details = error.errors(include_url=False)
    unknown = {tuple(d["loc"]) for d in details if d["type"] == "extra_forbidden"}
    return [
        _problem(detail, root) for detail in details if not _is_consequence(detail, root, unknown)
    ]


def key_path(steps: Sequence[Step]) -> str:
    """Return the path of a key as people write it: ``routes[0].path``, with indices from 0."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if is_account_name(step) else f".{_shown_key(step)}"
    return path.removeprefix(".")


def _shown_key(key: str) -> str:
    # An unquoted hash in braces is split at its commas, and its last piece becomes a key.
    return "'...'" if "$" in key else shown(key)


def position_of(root: YamlNode, steps: Sequence[Step]) -> Position:
    """Return the position of a value, or of the innermost node around it that is in the file."""
    for length in range(len(steps), 0, -1):
        node = root.at(*steps[:length])
        if node is not None:
            return node.position
    return root.position


def position_of_key(root: YamlNode, steps: Sequence[Step]) -> Position:
    """Return the position of a mapping's key, or of the item if the last step is an index."""
    around = root.at(*steps[:-1])
    if around is not None and steps and isinstance(steps[-1], str) and steps[-1] in around.keys:
        return around.keys[steps[-1]]
    return position_of(root, steps)


def _is_consequence(detail: ErrorDetails, root: YamlNode, unknown: set[tuple[Step, ...]]) -> bool:
    loc = detail["loc"]
    if isinstance(detail["input"], Invalid):
        return True
    if detail["type"] == "too_short":
        return bool(detail["input"])
    if detail["type"] != "missing":
        return False
    misspelt = [path[-1] for path in unknown if path[:-1] == loc[:-1]]
    return any(near_miss(str(key), [str(loc[-1])]) for key in misspelt)


def _problem(detail: ErrorDetails, root: YamlNode) -> Diagnostic:
    loc = detail["loc"]
    is_key = loc[-1:] == (_KEY,)
    steps = loc[:-1] if is_key else loc
    match detail["type"]:
        case "missing":
            position = position_of_key(root, steps[:-1]) if len(steps) > 1 else (1, 1)
        case "extra_forbidden":
            position = position_of_key(root, steps)
        case _:
            position = position_of_key(root, steps) if is_key else position_of(root, steps)
    return Diagnostic(
        *position, f"{key_path(steps[:-1] if is_key else steps)}: {_sentence(detail)}"
    )


def _sentence(detail: ErrorDetails) -> str:
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    rejected = context.get("error")
    if kind == "missing":
        return "this key is missing; add it"
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"])
    if isinstance(found, NoValue):
        return "there is no value; give one, or remove the key"
    if kind == "too_short":
        return "this is empty; add an entry, or remove the key"
    if type(found) is str and (name := literal_name(found)) is not None:
        return f"{found} stands for itself here; did you mean ${{{name}}}?"
    if isinstance(rejected, Rejected):
        subject = repr(found) if isinstance(found, Substituted) else None
        return rejected.sentence(subject) + _hint_at_variables(detail)
    if kind in ("literal_error", "enum"):
        return _not_a_choice(found, re.findall(r"'([^']*)'", context["expected"]))
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"{context['ge']} or more" if "ge" in context else f"{context['le']} or less"
        return f"{found} is out of range; write {bound}"
    return _wrong_type(kind, found)


def _hint_at_variables(detail: ErrorDetails) -> str:
    found = detail["input"]
    if type(found) is not str or "password_hash" in detail["loc"]:
        return ""
    is_variable = re.search(r"\$[A-Z_(]", found) is not None
    return "; to insert an environment variable, write ${NAME}" if is_variable else ""


def _unknown_key(loc: Sequence[Step]) -> str:
    section = section_at(loc[:-1])
    keys = list(section.model_fields) if section else []
    meant = near_miss(str(loc[-1]), keys)
    if meant:
        return f"there is no such key; did you mean {meant}?"
    return f"there is no such key; the keys here are {', '.join(keys)}"


def _not_a_choice(found: object, choices: list[str]) -> str:
    listed = ", ".join(choices)
    if not isinstance(found, str):
        return f"expected one of {listed}, found {_kind(found)}; write one of them"
    meant = None if isinstance(found, Substituted) else near_miss(found, choices)
    advice = f"did you mean {meant}?" if meant else f"write one of {listed}"
    return f"{shown(found)} is not a known value; {advice}"


def _wrong_type(kind: str, found: object) -> str:
    expected = _EXPECTED.get(kind, "another value")
    if isinstance(found, Substituted):
        return f"{found!r} is not {expected}; correct it where it is set"
    return f"expected {expected}, found {_kind(found)}; {_type_advice(kind, found)}"


def _type_advice(kind: str, found: object) -> str:
    if kind == "string_type" and isinstance(found, bool | int | float):
        return "put it in quotes"
    if kind == "tuple_type" and isinstance(found, str | int):
        return "write it in brackets: [...]"
    if kind == "bool_type":
        return "write true or false, without quotes"
    if kind == "int_type":
        return "write it in digits, without quotes, leading zeros or a fraction"
    return f"write {_EXPECTED.get(kind, 'another value')}"


def _kind(found: object) -> str:
    return next((words for kind, words in _KINDS if isinstance(found, kind)), "nothing")


def section_at(steps: Sequence[Step]) -> type[Section] | None:
    """Return the model of the section at a path of keys and indices."""
    annotation: Any = Settings
    for step in steps:
        section = _section_in(annotation)
        if section is not None and isinstance(step, str):
            annotation = section.model_fields[step].annotation
        else:
            annotation = _element_of(annotation)
    return _section_in(annotation)


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        return next(filter(None, map(_section_in, get_args(annotation))), None)
    return _section_in(get_args(annotation)[0]) if get_origin(annotation) is Annotated else None


def _element_of(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _element_of(get_args(annotation)[0])
    arguments = get_args(annotation)
    if isinstance(get_origin(annotation), type) and issubclass(get_origin(annotation), Mapping):
        return arguments[1]
    return arguments[0] if arguments else None
