"""``sidecar explain`` on a store in memory: route, credential, account, answer and reason."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.main import main
from sidecar.config.settings import Settings
from sidecar.core.errors import StoreUnavailable
from sidecar.core.key_documents import load_key
from sidecar.core.keys import generate_key
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.passwords import hash_password
from sidecar.core.problems import PROXY_CODES
from sidecar.core.signed_tokens import SignedTokens
from sidecar.core.tokens import digest, generate
from sidecar.store.memory import MemoryStore
from sidecar.store.port import TokenStore

OLD = "of-the-old-system/1234567890"
PASSWORD = "correct horse battery staple"
PEM = generate_key("EdDSA")
CONFIGURATION = f"""
upstreams:
  listener: {{url: "http://127.0.0.1:8999"}}
routes:
  - {{path: "/v1/{{id}}", methods: [GET, POST]}}
  - {{path: /bolt-only, accounts: [bolt]}}
  - {{path: /header-only, credentials: [header]}}
  - {{path: /status, public: true}}
accounts:
  acme: {{password_hash: "{hash_password(PASSWORD)}", paths: ["/v1/*", "/bolt-only"]}}
  bolt: {{}}
  gone: {{disabled: true}}
jwt: {{keys: [{{id: k1, private_key: "${{file:k1.pem}}"}}]}}
"""

Explain = Callable[..., dict[str, Any]]


def record_of(account: str, key: str, kind: TokenKind = TokenKind.IMPORTED) -> TokenRecord:
    token_id = f"{account}{kind}0001"
    return TokenRecord(token_id, account, str(kind), kind, digest(key), time.time(), None)


def jwt_of(record: TokenRecord) -> str:
    key = load_key("k1", "EdDSA", PEM)
    return SignedTokens("sidecar", "listener", 10, (key,)).sign(record)


LIVE = record_of("acme", "acmejwt0001", TokenKind.JWT)
REVOKED = record_of("bolt", "boltjwt0001", TokenKind.JWT)


def name_of_case(value: object) -> str:
    """Name a case by its code alone: what else it holds is new in each process."""
    return value if isinstance(value, str) and value in PROXY_CODES else "-"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(time.time)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "k1.pem").write_text(PEM)
    file = tmp_path / "sidecar.yaml"
    file.write_text(CONFIGURATION)
    return file


@pytest.fixture(autouse=True)
def _reached(monkeypatch: pytest.MonkeyPatch, store: MemoryStore) -> None:
    @asynccontextmanager
    async def readable_store(settings: Settings) -> AsyncIterator[TokenStore]:
        yield store

    async def fill() -> None:
        imported = [record_of("acme", OLD), *(record_of(a, f"{OLD}-{a}") for a in ("gone", "left"))]
        for record in (*imported, LIVE):
            await store.create(record)

    asyncio.run(fill())
    monkeypatch.setattr("sidecar.cli.explain.readable_store", readable_store)


@pytest.fixture
def explain(config: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    def run(*arguments: str) -> dict[str, Any]:
        status = main(["explain", *arguments, "--json", "--config", str(config)])
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert status == (0 if told["passes"] else 1)
        return told

    return run


def test_a_request_that_would_pass_is_fully_explained(explain: Explain, config: Path) -> None:
    assert explain("GET", f"http://h/v1/7?a=1&access_token={OLD}") == {
        "passes": True,
        "method": "GET",
        "path": "/v1/7",
        "route": "/v1/{id}",
        "route_at": f"{config}:5",
        "credential": "query",
        "token": "token of another system",
        "account": "acme",
        "token_id": "acmeimported0001",
        "upstream": "listener",
        "status": None,
        "code": None,
        "decided_by": None,
        "why": "acme may use this route and path; the credential is removed from the query",
    }


@pytest.mark.parametrize(
    ("arguments", "credential", "token"),
    [
        (["-H", f"Authorization: Bearer {OLD}"], "bearer", "token of another system"),
        (["-H", f"access_token: {OLD}"], "header", "token of another system"),
        (["-H", f"jwt_token: {jwt_of(LIVE)}"], "header", "JWT"),
        (["--user", f"acme:{PASSWORD}"], "basic", None),
    ],
    ids=["bearer", "header", "JWT", "basic"],
)
def test_every_form_of_a_good_credential_passes(
    explain: Explain, arguments: list[str], credential: str, token: str | None
) -> None:
    told = explain("POST", "/v1/7", *arguments)
    assert (told["passes"], told["account"]) == (True, "acme")
    assert (told["credential"], told["token"]) == (credential, token)


@pytest.mark.parametrize(
    ("arguments", "status", "code", "why"),
    [
        (["GET", "/elsewhere"], 404, "no_route", "The routes are /v1/{id}, /bolt-only, /header"),
        (["PUT", "/v1/7"], 405, "method_not_allowed", "Allowed: GET, POST."),
        (["GET", "/v1/%2e%2e"], 400, "unsafe_path", "dot segment"),
        (["GET", "/v1/7 8"], 400, "bad_request", "not well-formed"),
        (["GET", f"/v1/{'x' * 20_000}"], 414, "uri_too_long", "too long"),
        (["GET", "/v1/7", "-H", "Host:"], 400, "bad_request", "one valid Host"),
        (["GET", "/v1/7"], 401, "missing_credentials", "parameters access_token, token, jwt_token"),
        (
            ["GET", "/v1/7?token=x"],
            401,
            "malformed_credentials",
            "The token in the query parameter token is shorter than 16 characters, as no token is. "
            "It was cut off",
        ),
        (
            ["GET", "/v1/7", "-H", f'access_token: "{OLD}"'],
            401,
            "malformed_credentials",
            "header field access_token has a quotation mark around it; send it without. The quot",
        ),
        (["GET", "/v1/7?token=sct_" + "x" * 60], 401, "invalid_token", "was mistyped, cut off"),
        (["GET", "/v1/7?token=never-heard-of-it"], 401, "invalid_token", "unknown, expired"),
        (
            ["GET", f"/v1/7?token={jwt_of(REVOKED)}"],
            401,
            "invalid_token",
            "`sidecar token inspect`",
        ),
        (["GET", "/v1/7", "--user", "acme:x"], 401, "invalid_password", "or the password is wrong"),
        (["GET", f"/header-only?token={OLD}"], 401, "missing_credentials", "accepted: header"),
        (["GET", f"/bolt-only?token={OLD}"], 403, "not_allowed", "may not use this route"),
        (["GET", f"/v1/7?token={OLD}-gone"], 403, "account_disabled", "disabled"),
        (["GET", f"/v1/7?token={OLD}-left"], 401, "invalid_token", "declares no account 'left'"),
        (
            ["GET", f"/v1/7?token={OLD}", "--user", f"acme:{PASSWORD}"],
            400,
            "ambiguous_credentials",
            "more than one credential",
        ),
    ],
    ids=name_of_case,
)
def test_a_denial_is_explained_with_its_answer_and_reason(
    explain: Explain, arguments: list[str], status: int, code: str, why: str
) -> None:
    told = explain(*arguments)
    assert (told["passes"], told["status"], told["code"]) == (False, status, code)
    assert why in told["why"]
    assert told["upstream"] is None


# Every code that a request can get from the proxy itself. What needs a running service (timeouts,
# bans, a full queue, an upstream's answer) can't come from ``explain``.
RULINGS: list[tuple[list[str], str, str | None, str]] = [
    (["TRACE", "/v1/7"], "bad_request", None, "No setting changes this."),
    (["GET", "/v1/7", "-H", "Host: a b"], "bad_request", None, "No setting changes this."),
    (["GET", "/v1/../7"], "unsafe_path", None, "Send the path that is meant. No setting"),
    (["GET", "/v1/a%2Fb"], "unsafe_path", "routes", "A route lets %2F in if it has"),
    (["GET", "/v1/a%5Cb"], "unsafe_path", None, "Send the path that is meant. No setting"),
    (
        ["GET", f"/v1/{'x' * 20_000}"],
        "uri_too_long",
        ", limits.url_bytes (left out: the default)",
        "Raise limits.url_bytes",
    ),
    (
        ["GET", "/v1/7", *["-H", "a: b"] * 200],
        "headers_too_large",
        ", limits.headers (left out: the default)",
        "Raise limits.headers",
    ),
    (
        ["GET", "/v1/7", "-H", f"a: {'b' * 40_000}"],
        "headers_too_large",
        ", limits.header_bytes (left out: the default)",
        "Raise limits.header_bytes",
    ),
    (
        ["POST", "/v1/7", "-H", "Content-Length: 1001"],
        "body_too_large",
        ":19, limits.body_bytes",
        "Raise limits.body_bytes",
    ),
    (["GET", "/v2/7"], "no_route", ":4, routes", "Add one for it."),
    (["PUT", "/v1/7"], "method_not_allowed", ":5, routes[0].methods", "route /v1/{id}"),
    (["GET", "/v1/7"], "missing_credentials", ":5, routes[0]", "parameters access_token, token"),
    (
        ["GET", f"/header-only?token={OLD}"],
        "missing_credentials",
        ":8, routes[2].credentials",
        "Add query to `credentials` of the route /header-only",
    ),
    (
        ["GET", "/header-only", "--user", f"acme:{PASSWORD}"],
        "missing_credentials",
        ":8, routes[2].credentials",
        "Add basic to",
    ),
    (["GET", "/v1/7", "-H", "Authorization: Digest a"], "malformed_credentials", None, "Other sch"),
    (["GET", "/v1/7?token="], "malformed_credentials", None, "variable that should hold the token"),
    (
        ["GET", f"/v1/7?token={OLD}", "-H", "jwt_token: another-token-of-someone"],
        "ambiguous_credentials",
        None,
        "They stand in the header field jwt_token and the query parameter token.",
    ),
    (
        ["GET", "/v1/7", "-H", f"password: {PASSWORD}"],
        "malformed_credentials",
        None,
        "Send the account's name beside its password",
    ),
    (
        [
            "GET",
            "/v1/7",
            "-H",
            "username: acme",
            "-H",
            "password: x",
            "-H",
            f"access_token: {OLD}",
        ],
        "ambiguous_credentials",
        None,
        "the header fields username and password",
    ),
    (["GET", "/v1/7?token=never-heard-of-it"], "invalid_token", "store", "`sidecar token list`"),
    (["GET", "/v1/7?token=sct_" + "x" * 60], "invalid_token", None, "checksum does not fit"),
    (["GET", "/v1/7?token=sct_" + "x" * 40], "invalid_token", None, "they have 64 characters"),
    (["GET", f"/v1/7?token={OLD}-left"], "invalid_token", ":10, accounts", "Declare it, or revoke"),
    (
        ["GET", f"/v1/7?token={jwt_of(REVOKED)}"],
        "invalid_token",
        ":17, jwt",
        "`sidecar token inspect`",
    ),
    (
        ["GET", "/v1/7", "--user", "acme:wrong"],
        "invalid_password",
        ":12, accounts.acme.password_hash",
        "`sidecar account hash-password`",
    ),
    (
        ["GET", "/v1/7", "--user", "bolt:wrong"],
        "invalid_password",
        ":14, accounts.bolt.password_hash (left out: the default)",
        "bolt has no password_hash",
    ),
    (
        ["GET", "/v1/7", "--user", "acmee:wrong"],
        "invalid_password",
        ":10, accounts",
        "declares no such account (did you mean acme?)",
    ),
    (
        ["GET", f"/v1/7?token={OLD}-gone"],
        "account_disabled",
        ":16, accounts.gone.disabled",
        "take `disabled: true` out",
    ),
    (
        ["GET", f"/bolt-only?token={OLD}"],
        "not_allowed",
        ":7, routes[1].accounts",
        "The route /bolt-only admits bolt. Add acme there.",
    ),
    (
        ["GET", f"/open?token={OLD}"],
        "not_allowed",
        ":13, accounts.acme.paths",
        "The paths of acme are /v1/*, /bolt-only. Add one that covers this path.",
    ),
    (
        ["GET", f"/v1/7?token={OLD}-narrow"],
        "not_allowed",
        None,
        "The token's own paths are /v1/8. They can't be changed",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "decided_by", "advice"), RULINGS)
def test_a_denial_names_the_rule_that_decided_its_line_and_what_to_change(
    explain: Explain,
    config: Path,
    store: MemoryStore,
    arguments: list[str],
    code: str,
    decided_by: str | None,
    advice: str,
) -> None:
    config.write_text(
        f"""
upstreams:
  listener: {{url: "http://127.0.0.1:8999"}}
routes:
  - {{path: "/v1/{{id}}", methods: [GET, POST]}}
  - path: /bolt-only
    accounts: [bolt]
  - {{path: /header-only, credentials: [header]}}
  - {{path: /open}}
accounts:
  acme:
    password_hash: "{hash_password(PASSWORD)}"
    paths: ["/v1/*", "/bolt-only"]
  bolt: {{}}
  gone:
    disabled: true
jwt: {{keys: [{{id: k1, private_key: "${{file:k1.pem}}"}}]}}
limits:
  body_bytes: 1000
"""
    )
    narrow = record_of("acme", f"{OLD}-narrow").replace(id="narrow0001", paths=("/v1/8",))
    asyncio.run(store.create(narrow.replace(name="narrow")))
    told = explain(*arguments)
    assert told["code"] == code
    assert advice in told["why"]
    if decided_by is None:
        assert told["decided_by"] is None
    else:
        assert told["decided_by"].startswith(str(config))
        assert decided_by in told["decided_by"]
    assert "acmee" not in told["why"]


def test_every_code_of_the_proxy_is_explained_or_needs_a_running_service() -> None:
    running = {
        *("request_timeout", "too_many_failures", "internal_error", "upstream_unreachable"),
        *("upstream_broken", "upstream_timeout", "overloaded", "draining"),
    }
    explained = {code for _, code, _, _ in RULINGS} | {"store_unavailable"}
    assert explained | running == set(PROXY_CODES)


def test_of_many_routes_those_most_like_the_path_are_named(explain: Explain, config: Path) -> None:
    upstreams = CONFIGURATION.partition("routes:")[0]
    routes = "".join(f"  - {{path: /service-{number}/items}}\n" for number in range(200))
    config.write_text(f"{upstreams}routes:\n{routes}")
    assert (
        "The routes most like it, of 200, are /service-7/items"
        in explain("GET", "/service-7/item")["why"]
    )
    assert "None of the 200 routes is like it" in explain("GET", "/x")["why"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (
            "/v1/7;x//",
            "does not fall under this route. As sent it is under the route /v1/**. "
            "As /v1/7;x/ it is under the route /v1/{id}/. "
            "As /v1/7/ it is under the route /v1/{id}/.",
        ),
        ("//status", "As /status it is under the route /status."),
        ("/v1/7;x", "As /v1/7 it is under the route /v1/** and among the account's paths."),
        ("/v1/8;x", "the token's rule is another. It can also be read as /v1/8."),
    ],
)
def test_other_readings_of_a_path_are_explained(
    explain: Explain, config: Path, store: MemoryStore, target: str, why: str
) -> None:
    routes = """
  - {path: "/v1/{id}/"}
  - {path: /v1/**}
  - {path: /status}
  - {path: /**, public: true}
accounts:
  acme: {paths: [/v1/7, "/v1/8*", "/status"]}
"""
    upstreams = CONFIGURATION.partition("routes:")[0]
    config.write_text(f"{upstreams}routes:{routes}")
    narrow = record_of("acme", f"{OLD}-narrow").replace(id="narrow0001", paths=("/v1/7*", "/v1/8"))
    asyncio.run(store.create(narrow.replace(name="narrow")))
    told = explain("GET", target, "-H", f"access_token: {OLD}-narrow")
    assert (told["status"], told["code"]) == (400, "unsafe_path")
    assert why in told["why"]


def test_an_encoded_slash_is_explained_by_what_a_route_may_let_in(
    explain: Explain, config: Path
) -> None:
    told = explain("GET", "/v1/a%2Fb", "-H", f"access_token: {OLD}")
    assert told["code"] == "unsafe_path"
    assert told["why"].endswith("A route lets %2F in if it has `encoded_slash: true`.")
    text = CONFIGURATION.replace('"/v1/{id}",', '"/v1/{id}", encoded_slash: true,')
    config.write_text(text.replace('"/v1/*"', '"/v1/a*"'))
    told = explain("GET", "/v1/a%2Fb", "-H", f"access_token: {OLD}")
    assert told["why"].endswith(
        "As sent it is under the route /v1/{id} and among the account's paths. "
        "As /v1/a/b it is under no route and not among the account's paths."
    )
    config.write_text(text.replace('"/v1/*"', '"/v1/**"'))
    assert explain("GET", "/v1/a%2Fb", "-H", f"access_token: {OLD}")["passes"]


@pytest.mark.parametrize(
    "secret", [OLD.replace("/", ":"), jwt_of(LIVE), "sct_" + "x" * 60, "%73%63t_" + "x" * 60]
)
def test_a_token_in_the_path_is_not_printed(
    config: Path, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    for path in (f"/v1/{secret}", f"/nowhere/{secret}", f"/status/{secret}", f"/v1/{secret};x"):
        header = ["-H", f"access_token: {secret}", "-H", f"X-Request-Id: {secret}"]
        for asked in (["--json"], []):
            main(["explain", "GET", path, *header, *asked, "--config", str(config)])
            printed = capsys.readouterr()
            assert secret[-16:] not in printed.out + printed.err
            assert "[masked]" in printed.out


def test_a_public_route_asks_nobody(explain: Explain) -> None:
    told = explain("GET", "/status", "-H", f"access_token: {OLD}")
    assert (told["passes"], told["account"], told["credential"]) == (True, None, None)
    assert told["why"] == "the route is public, so everyone may pass"


@pytest.mark.parametrize(
    ("lines", "bad", "account", "why"),
    [
        ([], "refuse", None, "the route is public, so everyone may pass"),
        ([f"access_token: {OLD}"], "refuse", "acme", "acme may use this route and path"),
        (
            ["access_token: nobody-knows-this-one"],
            "ignore",
            None,
            "the route is public, so everyone may pass; the credential counts as none here "
            "(invalid_token: The token is unknown, expired or revoked)",
        ),
        (
            ["access_token: nobody-knows-this-one"],
            "refuse",
            None,
            "The token is unknown, expired or revoked. The store has no such token: it ended, was "
            "revoked, or belongs to another store or `store.prefix`. `sidecar token list` shows "
            "those that live; `sidecar token import` takes over one of another system.",
        ),
    ],
)
def test_optional_credentials_are_explained(
    explain: Explain, config: Path, lines: list[str], bad: str, account: str | None, why: str
) -> None:
    route = f"path: '/v1/{{id}}', credentials: optional, bad_credentials: {bad}"
    config.write_text(CONFIGURATION.replace('path: "/v1/{id}"', route))
    told = explain("GET", "/v1/7", *(part for line in lines for part in ("-H", line)))
    assert (told["account"], told["why"]) == (account, why)


def test_a_parameter_of_the_route_s_own_is_explained(explain: Explain, config: Path) -> None:
    route = "path: '/v1/{id}', credentials: {query: [key]}"
    config.write_text(CONFIGURATION.replace('path: "/v1/{id}"', route))
    told = explain("GET", f"/v1/7?key={OLD}&token=app")
    assert (told["account"], told["credential"]) == ("acme", "query")
    assert told["token"] == "token of another system"
    told = explain("GET", f"/v1/7?token={OLD}")
    assert told["code"] == "missing_credentials"
    assert "; parameters key" in told["why"]


def test_an_unknown_verdict_is_not_explained_as_a_denial(
    explain: Explain, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_away(*_: str) -> TokenRecord | None:
        raise StoreUnavailable("no answer within 250 ms")

    monkeypatch.setattr(store, "look_up", be_away)
    told = explain("GET", "/v1/7", "-H", f"access_token: {OLD}")
    assert (told["status"], told["code"]) == (503, "store_unavailable")
    assert told["why"].startswith("no answer within 250 ms `sidecar check --connect` tries")


def test_people_read_it_line_by_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["explain", "GET", f"/v1/7?token={OLD}", "--config", str(config)]
    assert main(asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "GET /v1/7",
        f"  route       /v1/{{id}}, {config}:5",
        "  credential  query, token of another system",
        "  account     acme, by token acmeimported0001",
        "  upstream    listener",
        "  answer      the upstream's",
        "  why         acme may use this route and path; the credential is removed from the query",
    ]


@pytest.mark.parametrize("as_json", [True, False], ids=["JSON", "text"])
@pytest.mark.parametrize("path", ["/v1/7", "/bolt-only", "/nowhere", "/status", "/v1/%2f"])
def test_no_credential_is_printed_whatever_the_verdict(
    config: Path, capsys: pytest.CaptureFixture[str], path: str, as_json: bool
) -> None:
    for secret in (OLD, jwt_of(LIVE), jwt_of(REVOKED), "a-token-of-nobody-at-all"):
        for place in ([f"{path}?token={secret}"], [path, "-H", f"Authorization: Bearer {secret}"]):
            asked = ["explain", "GET", *place, "--config", str(config)]
            main([*asked, "--json"] if as_json else asked)
            printed = capsys.readouterr()
            assert secret not in printed.out + printed.err
            assert secret[-16:] not in printed.out + printed.err
    main(["explain", "GET", path, "--user", f"acme:{PASSWORD}", "--config", str(config)])
    printed = capsys.readouterr()
    assert PASSWORD not in printed.out + printed.err


def test_explaining_does_not_record_a_use(explain: Explain, store: MemoryStore) -> None:
    assert explain("GET", "/v1/7", "-H", f"access_token: {OLD}")["passes"]
    assert asyncio.run(store.last_uses([record_of("acme", OLD)])) == {}


def test_a_token_beside_a_user_name_that_is_not_its_accounts_is_explained(
    explain: Explain, store: MemoryStore
) -> None:
    token = generate("sct_", os.urandom)
    asyncio.run(store.create(record_of("acme", token).replace(id="own0000001", name="own")))
    for user, passes in (("acme", True), ("bolt", False)):
        pair = ("-H", f"username: {user}", "-H", f"password: {token}")
        told = explain("GET", "/v1/7", *pair)
        assert (told["passes"], told["credential"]) == (passes, "basic")
        assert told["token"] == "access token"
        assert explain("GET", "/v1/7", "--user", f"{user}:{token}") == told
    assert told["code"] == "invalid_token"
    assert told["why"].endswith("Send the token alone, or with the name of its own account.")
