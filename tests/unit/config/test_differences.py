"""Differences between two configurations are described in plain words, without secrets."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from sidecar.config.differences import (
    content_differences,
    contents_of,
    differences,
    needs_restart,
)
from sidecar.config.load import load
from sidecar.config.settings import Settings

HASHES = [f"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA${c * 43}" for c in "AB"]
UPSTREAMS = 'upstreams: {listener: {url: "http://a:1"}}\n'
ROUTES = "routes: [{path: /x}]\n"


def settings_of(directory: Path, text: str) -> Settings:
    path = directory / "sidecar.yaml"
    path.write_text(text)
    return load(path, {})


def digest(text: str) -> str:
    return "sha256:" + sha256(text.encode()).hexdigest()[:8]


CASES = [
    ("workers: 1", "workers: auto", ["workers: 1 -> auto"]),
    ("", "accounts: {acme: {}}", ["accounts.acme added"]),
    ("accounts: {acme: {}}", "", ["accounts.acme removed"]),
    (
        "accounts: {acme: {}}",
        "accounts: {acme: {disabled: true}}",
        ["accounts.acme.disabled: false -> true"],
    ),
    (
        f"accounts: {{acme: {{password_hash: '{HASHES[0]}'}}}}",
        f"accounts: {{acme: {{password_hash: '{HASHES[1]}'}}}}",
        [f"accounts.acme.password_hash: {digest(HASHES[0])} -> {digest(HASHES[1])}"],
    ),
    (
        "accounts: {acme: {}}",
        f"accounts: {{acme: {{password_hash: '{HASHES[0]}'}}}}",
        ["accounts.acme.password_hash added"],
    ),
    (
        "accounts: {acme: {paths: [/a]}}",
        "accounts: {acme: {paths: [/a, /b]}}",
        ['accounts.acme.paths: ["/a"] -> ["/a", "/b"]'],
    ),
    (
        "store: {url: 'redis://:hunter2@a'}",
        "store: {url: 'redis://:hunter3@a'}",
        ["store.url changed (a URL is not shown)"],
    ),
    (
        "limits: {idle_timeout: 75s}",
        "limits: {idle_timeout: 2m}",
        ["limits.idle_timeout: 75s -> 2m"],
    ),
    (
        "identity: {headers: {X-Account: account}}",
        "identity: {headers: {X-Account: account, X-Token: token_id}}",
        ["identity.headers.X-Token added: token_id"],
    ),
    (
        "identity: {headers: {X-Account: account}}",
        "identity: {headers: {X-Account: token_name}}",
        ["identity.headers.X-Account: account -> token_name"],
    ),
    ("", "portal: {}", ["portal added"]),
    ("", "operations: false", ["operations removed"]),
    ("", "trusted_proxies: [10.0.0.0/8]", ['trusted_proxies: [] -> ["10.0.0.0/8"]']),
    ("", "trusted_proxies: [unix]", ['trusted_proxies: [] -> ["unix"]']),
    (
        "listen: {address: '127.0.0.1:1'}",
        "listen: {address: ['127.0.0.1:1', 'unix:/a'], mode: '0600'}",
        ['listen.address: 127.0.0.1:1 -> ["127.0.0.1:1", "unix:/a"]', "listen.mode: 0660 -> 0600"],
    ),
    ("workers: 1", "workers: 1", []),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_a_difference_is_one_line_in_plain_words(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    pair = [settings_of(tmp_path, UPSTREAMS + ROUTES + text) for text in (old, new)]
    assert differences(pair[0], pair[1]) == expected
    assert "hunter" not in str(differences(pair[0], pair[1]))


LISTS = [
    ("/a", "/a /b", ["routes[1] added: /b"]),
    ("/a /b", "/b", ["routes[0] removed: /a"]),
    ("/a /b", "/new /a /b", ["routes[0] added: /new"]),
    ("/a /b", "/a /c", ["routes[1].path: /b -> /c"]),
    ("/a /b /c", "/x /c", ["routes[0].path: /a -> /x", "routes[1] removed: /b"]),
]


@pytest.mark.parametrize(("old", "new", "expected"), LISTS)
def test_one_route_more_at_the_head_makes_no_other_route_different(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    pair = [
        settings_of(
            tmp_path, UPSTREAMS + f"routes: [{', '.join(f'{{path: {p}}}' for p in paths.split())}]"
        )
        for paths in (old, new)
    ]
    assert differences(pair[0], pair[1]) == expected


RESTARTS = [
    ("listen: {address: '127.0.0.1:1'}", ["listen.address"]),
    ("listen: {address: ['127.0.0.1:1', 'unix:/a']}", ["listen.address"]),
    ("listen: {mode: '0600'}", ["listen.mode"]),
    ("listen: {group: '0'}", ["listen.group"]),
    ("listen: {proxy_protocol: true}\ntrusted_proxies: ['::1']", ["listen.proxy_protocol"]),
    ("trusted_proxies: [unix]", []),
    ("listen: {health_path: /healthz}", []),
    ("operations: {address: '127.0.0.1:1'}", ["operations.address"]),
    ("operations: false", ["operations"]),
    ("portal: {}", ["portal"]),
    ("workers: 2", ["workers"]),
    ("store: {url: redis://a, prefix: 'x:'}", ["store.url", "store.prefix"]),
    ("store: {cache: {tokens: 0}}", ["store.cache.tokens"]),
    ("store: {outage_grace: 0}", ["store.outage_grace"]),
    ("accounts: {acme: {}}\nlimits: {headers: 5}\ncredentials: {realm: x}", []),
]


@pytest.mark.parametrize(("text", "expected"), RESTARTS)
def test_what_cannot_change_while_running_is_named(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    old = settings_of(tmp_path, UPSTREAMS + ROUTES)
    new = settings_of(tmp_path, UPSTREAMS + ROUTES + text)
    assert needs_restart(old, new) == expected


def test_a_file_with_other_contents_is_a_difference_of_the_key_that_names_it(
    tmp_path: Path,
) -> None:
    issuer = "jwt: {trusted_issuers: [{issuer: i, audience: a, jwks_file: k.json}]}"
    (tmp_path / "k.json").write_text('{"keys": []}')
    settings = settings_of(
        tmp_path, UPSTREAMS + ROUTES + issuer.replace("jwks_file: k.json", "jwks_url: 'https://a/'")
    )
    assert contents_of(settings) == {}
    settings = settings.model_copy(
        update={
            "jwt": settings.jwt.model_copy(
                update={
                    "trusted_issuers": (
                        settings.jwt.trusted_issuers[0].model_copy(
                            update={"jwks_file": tmp_path / "k.json"}
                        ),
                    )
                }
            )
        }
    )
    key, old = "jwt.trusted_issuers[0].jwks_file", contents_of(settings)
    assert old == {key: digest('{"keys": []}')}
    (tmp_path / "k.json").write_text("{}")
    new = contents_of(settings)
    assert content_differences(old, new) == {
        key: f"{key}: the content of the file, {old[key]} -> {new[key]}"
    }
    assert content_differences(old, old) == {}
    (tmp_path / "k.json").unlink()
    assert contents_of(settings) == {key: "unreadable"}
