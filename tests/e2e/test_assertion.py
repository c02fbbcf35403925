"""What an upstream is told under signature, what a caller is told of its token's end, last use."""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

import jwt
import pytest

from sidecar.core.keys import generate_key
from sidecar.store.record import decode, encode
from tests.command_line import run_command
from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, PASSWORD, ask, key_of, plain_settings
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Exchange, Recorder, answer

HEADER = "x-account-assertion"
DAY_SECONDS = 86400


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def signing(
    redis: RedisServer, upstream: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """Run a proxy that signs assertions for two upstreams and keeps its tokens apart."""
    settings = plain_settings(redis, upstream.url)
    settings |= {
        "upstreams": {"listener": {"url": upstream.url}, "other": {"url": upstream.url}},
        "routes": [
            {"path": LISTENER.decode(), "upstream": "listener"},
            {"path": "/other", "upstream": "other"},
            {"path": "/public", "upstream": "listener", "public": True},
        ],
        "jwt": {
            "keys": [
                {"id": "new", "private_key": generate_key("EdDSA")},
                {"id": "old", "algorithm": "ES256", "private_key": generate_key("ES256")},
            ]
        },
        "identity": {"headers": {"X-Account": "account"}, "assertion": {"lifetime": "60s"}},
        "tokens": {"expiry_notice": "14d"},
    }
    settings["store"] = {"url": redis.unix_url, "prefix": "assertion:"}
    with ProxyProcess(tmp_path_factory.mktemp("signing"), settings) as running:
        yield running


@pytest.fixture
def caller(signing: ProxyProcess) -> Iterator[RawClient]:
    with closing(RawClient(signing.connect())) as client:
        yield client


@pytest.fixture(scope="module")
def tokens(signing: ProxyProcess) -> dict[str, Any]:
    """Return a token of each kind as ``--json`` has it."""
    made = {}
    for kind in ("access", "jwt"):
        asked = ("--account", "acme", "--name", f"a {kind}", "--days", "1", "--kind", kind)
        done = run_command("token", "create", "--json", *asked, config=signing.config)
        assert done.returncode == 0, done.stderr
        made[kind] = json.loads(done.stdout)
    return made


def bearer(token: str) -> bytes:
    return b"Authorization: Bearer " + token.encode()


def fetch_keys(proxy: ProxyProcess) -> jwt.PyJWKSet:
    """Return the published key set, as an upstream would fetch it."""
    host, _, port = proxy.settings["operations"]["address"].rpartition(":")
    asking = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
    with closing(asking):
        asking.request("GET", "/.well-known/jwks.json")
        return jwt.PyJWKSet.from_dict(json.loads(asking.getresponse().read()))


def verify(exchange: Exchange, proxy: ProxyProcess, audience: str) -> dict[str, Any]:
    """Verify the one assertion that arrived as an upstream does, with PyJWT; return its claims."""
    (assertion,) = exchange.values(HEADER)
    head = jwt.get_unverified_header(assertion.decode())
    assert head["typ"] == "assertion+jwt"
    claims: dict[str, Any] = jwt.decode(
        assertion,
        fetch_keys(proxy)[head["kid"]],
        algorithms=["EdDSA"],
        audience=audience,
        issuer="sidecar",
        options={"require": ["exp", "iat", "aud", "iss", "sub"]},
    )
    return claims


def test_the_assertion_says_who_calls_by_which_token_for_which_upstream(
    caller: RawClient, signing: ProxyProcess, upstream: Recorder, tokens: dict[str, Any]
) -> None:
    for kind, token in tokens.items():
        for target, audience in ((LISTENER, "listener"), (b"/other", "other")):
            assert ask(caller, bearer(token["token"]), target=target).status == 200
            claims = verify(upstream.exchanges[-1], signing, audience)
            assert (claims["sub"], claims["method"]) == ("acme", "bearer")
            assert (claims["token_id"], claims["token_name"]) == (token["id"], f"a {kind}")
            assert 0 < claims["exp"] - time.time() <= 60
            assert upstream.exchanges[-1].values("x-account") == [b"acme"]


def test_with_a_password_it_names_no_token(
    caller: RawClient, signing: ProxyProcess, upstream: Recorder
) -> None:
    pair = base64.b64encode(f"acme:{PASSWORD}".encode())
    assert ask(caller, b"Authorization: Basic " + pair).status == 200
    claims = verify(upstream.exchanges[-1], signing, "listener")
    assert (claims["sub"], claims["method"]) == ("acme", "basic")
    assert {"token_id", "token_name"}.isdisjoint(claims)


SPOOFED = (
    b"X-Account-Assertion: forged",
    b"x-account-assertion: forged",
    b"X_Account_Assertion: forged",
    b"X-Account.Assertion: forged",
    b"X-Account-Assertion: forged\r\nX-ACCOUNT-ASSERTION: forged",
    b"X-Account-Assertion: forged\r\nConnection: X-Account-Assertion",
)


@pytest.mark.parametrize("lines", SPOOFED)
def test_a_callers_own_is_taken_away_and_ours_set_once(
    lines: bytes,
    caller: RawClient,
    signing: ProxyProcess,
    upstream: Recorder,
    tokens: dict[str, Any],
) -> None:
    assert ask(caller, lines, bearer(tokens["access"]["token"])).status == 200
    assert b"forged" not in upstream.exchanges[-1].head
    assert verify(upstream.exchanges[-1], signing, "listener")["sub"] == "acme"


@pytest.mark.parametrize("lines", SPOOFED)
def test_on_a_public_route_there_is_none_at_all(
    lines: bytes, caller: RawClient, upstream: Recorder
) -> None:
    assert ask(caller, lines, target=b"/public").status == 200
    assert upstream.exchanges[-1].values(HEADER) == []
    assert b"forged" not in upstream.exchanges[-1].head


@pytest.mark.parametrize("slot", ["bearer", "header", "query"])
def test_an_assertion_opens_nothing(
    slot: str, caller: RawClient, upstream: Recorder, tokens: dict[str, Any]
) -> None:
    """It is signed with the key of our JWTs, and an upstream could send it back."""
    assert ask(caller, bearer(tokens["access"]["token"])).status == 200
    (assertion,) = upstream.exchanges[-1].values(HEADER)
    lines = {"bearer": b"Authorization: Bearer " + assertion, "header": b"jwt_token: " + assertion}
    target = LISTENER + (b"?token=" + assertion if slot == "query" else b"")
    refused = ask(caller, lines.get(slot, b"X-A: 1"), target=target)
    assert refused.status == 401
    assert json.loads(refused.body)["code"] == "invalid_token"


# X-Token-Expires.


def test_a_token_that_ends_soon_is_told_of_on_its_answers(
    caller: RawClient, tokens: dict[str, Any]
) -> None:
    for token in tokens.values():
        told = ask(caller, bearer(token["token"])).values("x-token-expires")
        assert told == [token["expires_at"]]
        assert datetime.fromisoformat(told[0]).timestamp() - time.time() <= DAY_SECONDS


@pytest.mark.parametrize(
    ("left_seconds", "is_told"),
    [(14 * DAY_SECONDS - 30, True), (14 * DAY_SECONDS + 30, False), (None, False)],
    ids=["within", "outside", "unlimited"],
)
def test_the_notice_begins_as_long_before_the_end_as_configured(
    left_seconds: int | None,
    is_told: bool,
    caller: RawClient,
    signing: ProxyProcess,
    redis: RedisServer,
    request: pytest.FixtureRequest,
) -> None:
    token = create_token(signing.config, "acme", request.node.name[-40:], 0)
    key = key_of(token).replace("sidecar:", "assertion:", 1)
    record = decode(key.rpartition(":")[2], redis.command("GET", key))
    assert record is not None
    ends = None if left_seconds is None else time.time() // 1 + left_seconds
    redis.command("SET", key, encode(record.replace(expires_at=ends)))
    told = ask(caller, bearer(token)).values("x-token-expires")
    assert bool(told) is is_told
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value) for value in told)


def test_passwords_public_routes_and_refusals_carry_no_notice(
    caller: RawClient, tokens: dict[str, Any]
) -> None:
    pair = base64.b64encode(f"acme:{PASSWORD}".encode())
    answers = [
        ask(caller, b"Authorization: Basic " + pair),
        ask(caller, target=b"/public"),
        ask(caller, bearer(tokens["access"]["token"]), target=b"/nowhere"),
        ask(caller, bearer(tokens["jwt"]["token"][:-4] + "AAAA")),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 401]
    assert [answer.values("x-token-expires") for answer in answers] == [[]] * 4


def test_the_notice_comes_with_whatever_the_upstream_answers(
    caller: RawClient, upstream: Recorder, tokens: dict[str, Any]
) -> None:
    upstream.play((answer(b"503 Service Unavailable", body=b"later"),), (answer(b"304 X"),))
    for status in (503, 304):
        answered = ask(caller, bearer(tokens["access"]["token"]))
        assert answered.status == status
        assert answered.values("x-token-expires") == [tokens["access"]["expires_at"]]


# Last use.


def last_use(proxy: ProxyProcess, token_id: str) -> float | None:
    done = run_command("token", "show", token_id, "--json", config=proxy.config)
    at = json.loads(done.stdout)["last_used_at"]
    return None if at is None else datetime.fromisoformat(at).timestamp()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.5)


@pytest.mark.parametrize("kind", ["access", "jwt"])
def test_a_last_use_is_seen_within_seconds_and_a_refusal_is_no_use(
    kind: str, caller: RawClient, signing: ProxyProcess
) -> None:
    asked = ("--account", "acme", "--name", f"used {kind}", "--days", "0", "--kind", kind)
    done = run_command("token", "create", "--json", *asked, config=signing.config)
    token = json.loads(done.stdout)
    assert last_use(signing, token["id"]) is None
    assert ask(caller, bearer(token["token"]), target=b"/nowhere").status == 404
    before = int(time.time())
    assert ask(caller, bearer(token["token"])).status == 200
    until(lambda: (last_use(signing, token["id"]) or 0) >= before)
