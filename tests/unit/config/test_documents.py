"""The shipped example, its schema and docs/reference/configuration.md say what the model says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sidecar.config.load import load
from sidecar.config.schema import json_schema, spelt_default
from sidecar.config.settings import Settings
from sidecar.config.units import parse_duration
from sidecar.core.errors import ConfigurationError
from website import settings_tables

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "config" / "sidecar.yaml"
EXAMPLE_SCHEMA = ROOT / "config" / "sidecar.schema.json"
DOCUMENT = ROOT / "docs" / "reference" / "configuration.md"
SAMPLE_PASSWORD = b"correct horse battery staple"


KEYS = {key.path: (key.section, key.name) for key in settings_tables.walk_keys()}


def documented() -> dict[str, str]:
    rows = re.findall(
        r"^\| `([a-zA-Z_.\[\]]+)` \| .+? \| (.+?) \| .+\|$", DOCUMENT.read_text(), re.M
    )
    assert len(dict(rows)) == len(rows), "a key stands once"
    return {path: default for path, default in rows if not path.startswith("$")}


def test_every_key_is_documented_and_nothing_else_is() -> None:
    assert sorted(documented()) == sorted(KEYS)


@pytest.mark.parametrize("path", KEYS)
def test_the_documented_default_is_the_default(path: str) -> None:
    section, key = KEYS[path]
    cell = documented()[path]
    if section.model_fields[key].is_required():
        assert cell == "required"
    else:
        expected = spelt_default(section, key)
        text = None if cell == "none" else cell.strip("`")
        assert expected in (text, yaml.safe_load(text or "null"))


@pytest.mark.parametrize("path", KEYS)
def test_the_example_names_every_key(path: str) -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert any(re.match(rf"[ #]*(- )?(.*[{{,] ?)?{KEYS[path][1]}:", line) for line in lines)


def test_the_example_loads_with_no_environment_and_no_other_file(tmp_path: Path) -> None:
    copy = tmp_path / "sidecar.yaml"
    copy.write_bytes(EXAMPLE.read_bytes())
    settings = load(copy, {})
    assert [str(address) for address in settings.listen.address] == ["0.0.0.0:2020"]
    assert settings.store.url == "embedded"
    assert settings.portal is not None
    assert settings.routes[0].upstream == "listener"


def test_the_password_in_the_example_matches_its_hash() -> None:
    password_hash = load(EXAMPLE, {}).accounts["acme"].password_hash
    assert password_hash is not None
    assert SAMPLE_PASSWORD.decode() in EXAMPLE.read_text()
    Argon2id.verify_phc_encoded(SAMPLE_PASSWORD, password_hash)


def uncommented() -> str:
    """Return the example with all its keys switched on."""
    text = EXAMPLE.read_text().partition("\nlisten:")
    switched_on = re.sub(r"^( *)# (?=[ ]*(- )?\w+:( |$))", r"\1", text[1] + text[2], flags=re.M)
    # A second pass for what is an alternative within a comment.
    return re.sub(r"^( *)# jwks_file:.*\n", "", switched_on, flags=re.M)


def test_what_is_commented_out_in_the_example_is_valid_too() -> None:
    tree = yaml.safe_load(uncommented())
    assert list(jsonschema.Draft202012Validator(json_schema()).iter_errors(tree)) == []
    assert set(tree) == set(Settings.model_fields)


# Keys that have no default, or whose default says nothing: the example shows what one would write.
SAMPLES = {"trusted_proxies", "jwt.trusted_issuers[].jwks_file", "routes[].public"}
SAMPLES |= {"tracing.headers", "jwt.trusted_issuers[].accounts"}


@pytest.mark.parametrize("path", sorted(set(KEYS) - SAMPLES))
def test_what_the_example_shows_is_the_default_where_there_is_one(path: str) -> None:
    section, key = KEYS[path]
    default = None if section.model_fields[key].is_required() else spelt_default(section, key)
    found: Any = yaml.safe_load(uncommented())
    for step in path.replace("[]", ".[]").split("."):
        found = found[{"[]": 0, "NAME": next(iter(found))}.get(step, step)]
    if default is not None and found != default:
        assert parse_duration(found) == parse_duration(default)


def test_the_shipped_schema_is_the_model_s() -> None:
    assert json.loads(EXAMPLE_SCHEMA.read_text()) == json_schema()
    first = EXAMPLE.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={EXAMPLE_SCHEMA.name}"


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for key, value in section.get("properties", {}).items():
            target = value.get("$ref", "").removeprefix("#/$defs/")
            assert "description" in value or "description" in schema["$defs"][target], key


MINIMAL: dict[str, Any] = {"upstreams": {"a": {"url": "http://a:1"}}, "routes": [{"path": "/x"}]}


def issuer_with(**settings: object) -> dict[str, Any]:
    issuer = {"issuer": "https://i.example/", "audience": "a", "jwks_url": "https://i.example/"}
    return {"accounts": {"acme": {}}, "jwt": {"trusted_issuers": [issuer | settings]}}


@pytest.mark.parametrize(
    ("section", "is_valid"),
    [
        ({}, True),
        ({"workers": "${WORKERS}"}, True),
        ({"workers": "auto"}, True),
        ({"workers": 0}, False),
        ({"portal": False}, True),
        ({"portal": True}, False),
        ({"portal": None}, False),
        ({"drain": {"timeout": "3s"}}, True),
        ({"drain": {"timeout": 0}}, True),
        ({"drain": {"timeout": 30}}, False),
        ({"drain": {"timeout": "soon"}}, False),
        ({"drain": {"timeout": "${DRAIN}"}}, True),
        ({"limits": {"header_bytes": "16KiB"}}, True),
        ({"limits": {"header_bytes": "16KB"}}, False),
        ({"limits": {"bytes": 1}}, False),
        ({"listen": {"address": "2020"}}, False),
        ({"listen": {"address": "[::1]:2020"}}, True),
        ({"listen": {"address": "unix:/run/x"}}, True),
        ({"accounts": {"a b": {}}}, False),
        ({"accounts": {"acme@example.com": {"disabled": True}}}, True),
        *(
            (issuer_with(account_claim=claim), is_valid)
            for claim, is_valid in (
                ("https://example.com/account", True),
                (["kubernetes.io", "serviceaccount", "name"], True),
                (["groups", 0], True),
                (["groups", -1], False),
                ([], False),
                (["a"] * 9, False),
                ("", False),
                ("a\nb", False),
                (1, False),
                ({"a": "b"}, False),
            )
        ),
        (issuer_with(accounts={"auth0|5f7c": "acme", "a b": "acme"}), True),
        (issuer_with(accounts={" a": "acme"}), False),
        (issuer_with(accounts={"a": ["acme"]}), False),
        (issuer_with(accounts=["acme"]), False),
        ({"identity": {"headers": {"X-A": "acount"}}}, False),
        ({"routes": []}, False),
        ({"routes": [{"path": "/x", "credentials": "optional"}]}, True),
        ({"routes": [{"path": "/x", "credentials": ["bearer"]}]}, True),
        ({"routes": [{"path": "/x", "credentials": {"query": ["key"], "basic": False}}]}, True),
        ({"routes": [{"path": "/x", "credentials": {"query": True, "optional": True}}]}, True),
        ({"routes": [{"path": "/x", "credentials": {"header": ["key"]}}]}, False),
        ({"routes": [{"path": "/x", "credentials": "none"}]}, False),
        ({"routes": [{"path": "/x", "credentials": []}]}, False),
        ({"routes": [{"path": "/x", "encoded_slash": True}]}, True),
        ({"routes": [{"path": "/x", "cors": {"origins": ["https://a.b", "*"]}}]}, True),
        ({"routes": [{"path": "/x", "cors": {"origins": ["a.b"]}}]}, False),
        ({"routes": [{"path": "/x", "cors": {}}]}, False),
        ({"upstreams": {"a": {"url": "http://a:1", "via": False}}}, True),
        ({"upstreams": {"a": {"url": "http://user@h"}}}, False),
    ],
)
def test_an_editor_finds_what_the_loader_finds(
    tmp_path: Path, section: dict[str, Any], is_valid: bool
) -> None:
    tree = MINIMAL | section
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(tree) == is_valid
    path = tmp_path / "sidecar.yaml"
    path.write_text(yaml.safe_dump(tree))
    environ = {"WORKERS": "2", "DRAIN": "3s"}
    if is_valid:
        load(path, environ)
    else:
        with pytest.raises(ConfigurationError, match=r":\d+:\d+: "):
            load(path, environ)
