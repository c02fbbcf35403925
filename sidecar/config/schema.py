"""The JSON Schema of the configuration file, generated from the model for editors."""

from __future__ import annotations

import json
from typing import Any

from sidecar.config.settings import Section, Settings

SUBSTITUTION = {"type": "string", "pattern": r"\$\{[^}]+\}"}
"""A value with a substitution is checked by the loader, which alone knows the result."""

_SUFFIX = "Settings"
_SWITCHED_OFF_BY_FALSE = ("portal", "operations")
_SWITCHED_OFF_BY_NULL = {"Credentials": "password_fields"}


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of the whole file, with each key's meaning and default."""
    generated = _without_suffix(Settings.model_json_schema())
    sections = {
        section.__name__.removesuffix(_SUFFIX): section for section in Section.__subclasses__()
    }
    definitions = {
        name: _section(sections[name], schema) if name in sections else _value(schema)
        for name, schema in sorted(generated.pop("$defs").items())
    }
    whole = _section(Settings, generated)
    for key in _SWITCHED_OFF_BY_FALSE:
        whole["properties"][key] = _or(whole["properties"][key], {"const": False})
    for name, key in _SWITCHED_OFF_BY_NULL.items():
        properties = definitions[name]["properties"]
        properties[key] = _or(properties[key], {"type": "null"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of auth-sidecar",
        **whole,
        "$defs": definitions | {"Substitution": SUBSTITUTION},
    }


def _without_suffix(generated: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with ``Account`` for the definition that the model calls
    ``AccountSettings``, and likewise in every reference to it.
    """
    shortened: dict[str, Any] = json.loads(json.dumps(generated).replace(f'{_SUFFIX}"', '"'))
    return shortened


def spelt_default(section: type[Section], key: str) -> Any:
    """Return a key's default as the file spells it (``3s``, ``32KiB``); ``None`` without one.

    A list that may not be empty has no default, and neither has ``upstream``, which is derived:
    leaving the key out means something else there.
    """
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in section.model_fields.items()
        if not field.is_required()
    }
    default = section.model_construct(**defaults).model_dump(mode="json", warnings=False).get(key)
    return None if default in ("", []) and not _may_be_empty(section, key) else default


def _may_be_empty(section: type[Section], key: str) -> bool:
    metadata = section.model_fields[key].metadata
    return key != "upstream" and not any(getattr(part, "min_length", 0) for part in metadata)


def _section(section: type[Section], schema: dict[str, Any]) -> dict[str, Any]:
    properties = {
        key: _property(value, spelt_default(section, key))
        for key, value in schema["properties"].items()
    }
    return {**{k: v for k, v in schema.items() if k != "title"}, "properties": properties}


def _property(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    named = {"description": schema["description"]} if "description" in schema else {}
    rest = _without_null({k: v for k, v in schema.items() if k not in ("description", "default")})
    if default is not None and "$ref" not in rest:  # a section has its defaults at its own keys
        named["default"] = default
    return named | _value(rest)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional key; it may be left out, but not be null."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def _value(schema: dict[str, Any]) -> dict[str, Any]:
    """Return ``schema``, with a substitution allowed for every value that is not free text."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = _value(schema[key])
    if "patternProperties" in schema:
        named = {name: _value(part) for name, part in schema["patternProperties"].items()}
        return {**schema, "patternProperties": named, "additionalProperties": False}
    if (
        schema.get("type") in ("object", "array")
        or "$ref" in schema
        or schema == {"type": "string"}
    ):
        return schema
    return {"anyOf": [schema, {"$ref": "#/$defs/Substitution"}]}


def _or(schema: dict[str, Any], switched_off: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {
        key: schema[key] for key in ("description", "default") if key in schema
    }
    rest = {key: value for key, value in schema.items() if key not in about}
    return {**about, "anyOf": [rest, switched_off]}
