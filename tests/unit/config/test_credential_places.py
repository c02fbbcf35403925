"""Where credentials are looked for: by default everywhere, and what may be configured."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from sidecar.config.differences import differences
from sidecar.config.load import load
from sidecar.config.schema import json_schema
from sidecar.config.settings import CredentialsSettings, Settings
from sidecar.core.errors import ConfigurationError
from sidecar.core.model import Denial, PasswordCredential, TokenCredential
from sidecar.runtime.build import build_credentials

MINIMAL = """\
upstreams: {listener: {url: "http://127.0.0.1:8080"}}
routes: [{path: /v1/**}]
accounts: {acme: {}}
"""
T = "a-token-of-the-old-system"


def loaded(tmp_path: Path, credentials: str) -> Settings:
    file = tmp_path / "sidecar.yaml"
    file.write_text(f"{MINIMAL}credentials: {credentials}\n")
    return load(file, {})


def test_all_forms_are_read_with_no_configuration() -> None:
    places = CredentialsSettings()
    assert places.schemes == ("Bearer", "Token", "access_token", "jwt_token", "")
    assert places.password_fields is not None
    assert (places.password_fields.account, places.password_fields.password) == (
        "username",
        "password",
    )


@pytest.mark.parametrize("off", ["null", "~", "false", ""])
def test_the_pair_can_be_switched_off(tmp_path: Path, off: str) -> None:
    text = f"{{password_fields: {off}}}"
    settings = loaded(tmp_path, text)
    assert settings.credentials.password_fields is None
    assert build_credentials(settings).pair is None
    [told] = differences(loaded(tmp_path, "{}"), settings)
    assert told.startswith("credentials.password_fields")


def test_an_editor_accepts_what_the_loader_accepts() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    for text in ("{password_fields: null}", "{schemes: ['']}", "{password_fields: {account: X-A}}"):
        tree = yaml.safe_load(f"{MINIMAL}credentials: {text}")
        assert list(validator.iter_errors(tree)) == []


@pytest.mark.parametrize(
    ("text", "read", "not_read"),
    [
        ("{schemes: [Bearer]}", [f"Bearer {T}"], [T, f"Token {T}"]),
        ("{schemes: ['']}", [T], [f"Bearer {T}"]),
        ("{schemes: [X-Key, '']}", [T, f"x-key {T}"], [f"Bearer {T}"]),
        ("{schemes: []}", [], [T, f"Bearer {T}"]),
    ],
)
def test_the_schemes_are_those_that_are_listed_and_basic(
    tmp_path: Path, text: str, read: list[str], not_read: list[str]
) -> None:
    rules = build_credentials(loaded(tmp_path, text))
    for value in read:
        assert isinstance(rules.read_authorization(value.encode()), TokenCredential)
    for value in not_read:
        assert isinstance(rules.read_authorization(value.encode()), Denial)
    assert isinstance(rules.read_authorization(b"Basic YWNtZTp4"), PasswordCredential)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("{}", "Bearer"),
        ("{schemes: [Token, BEARER]}", "Bearer"),
        ("{schemes: ['', X-Key, Token]}", "X-Key"),
        ("{schemes: ['']}", "Bearer"),
    ],
)
def test_the_challenge_names_a_scheme_that_is_read_bearer_if_it_is(
    tmp_path: Path, text: str, scheme: str
) -> None:
    assert build_credentials(loaded(tmp_path, text)).scheme == scheme


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{schemes: [Basic]}", "credentials.schemes[0]: 'Basic' can't precede a token"),
        ("{schemes: [dIGEST]}", "credentials.schemes[0]: 'dIGEST' can't precede a token"),
        ("{schemes: [Negotiate]}", "credentials.schemes[0]: 'Negotiate' can't precede a token"),
        ("{schemes: ['a b']}", "credentials.schemes[0]: 'a b' is not a scheme"),
        ("{schemes: ['Bearer:']}", "credentials.schemes[0]: 'Bearer:' is not a scheme"),
        ("{schemes: Bearer}", "credentials.schemes"),
        ("{password_fields: {account: Host}}", "credentials.password_fields.account: 'Host' can't"),
        ("{password_fields: {password: Cookie}}", "credentials.password_fields.password: 'Cookie'"),
        ("{password_fields: {user: x}}", "credentials.password_fields.user: there is no such key"),
        ("{password_fields: yes}", "credentials.password_fields"),
        (
            "{password_fields: {account: X-Key, password: x_key}}",
            "credentials.password_fields.password: x_key is the same as X-Key in",
        ),
        (
            "{password_fields: {account: jwt-token}}",
            "credentials.password_fields.account: jwt-token is the same as jwt_token in",
        ),
        (
            "{headers: [Password]}",
            "credentials.password_fields.password: password is the same as Password in",
        ),
        (
            "{}\nidentity: {headers: {UserName: account}}",
            "identity.headers.UserName: an upstream may confuse this with username",
        ),
    ],
)
def test_what_would_open_a_hole_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, text)
    assert told in str(refused.value)


def test_without_the_pair_its_names_are_free(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "{password_fields: null, headers: [Password]}")
    assert settings.credentials.headers == ("Password",)
