"""Every spelling of a credential in every state gets its exact answer; and what Redis holds."""

from __future__ import annotations

import base64
import json
import time

import pytest

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, PASSWORD, Tokens, ask, key_of
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import RedisServer

TOKEN_SPELLINGS = [
    "Authorization: Bearer {}",
    "Authorization: Bearer\t  {} ",
    "Authorization: Token {}",
    "Authorization: access_token {}",
    "Authorization: JWT_token {}",
    "Authorization: {}",
    "access_token: {}",
    "jwt_token: {}",
    "?access_token={}",
    "?token={}",
    "?jwt_token={}",
    "?token=%20{}%0A",
]
PLACES_IN_BASIC = ["{}:", ":{}", "acme:{}"]
STATES = {
    "valid": (200, None),
    "unlimited": (200, None),
    "expired": (401, "invalid_token"),
    "revoked": (401, "invalid_token"),
    "unknown": (401, "invalid_token"),
    "malformed": (401, "malformed_credentials"),
    "absent": (401, "missing_credentials"),
}
PASSWORDS = {
    "valid": (f"acme:{PASSWORD}", 200, None),
    "expired": ("acme:the-password-of-last-year", 401, "invalid_password"),
    "revoked": ("acme:", 401, "invalid_password"),
    "unknown": (f"nobody:{PASSWORD}", 401, "invalid_password"),
    "malformed": ("no colon", 401, "malformed_credentials"),
    "absent": (None, 401, "missing_credentials"),
}
BASIC_CHALLENGE = 'Basic realm="listener", charset="UTF-8"'


def spell(spelling: str, token: str | None) -> tuple[list[bytes], bytes]:
    """Return the header lines and the target that carry a token in this spelling."""
    if token is None:
        return [], LISTENER
    written = spelling.format(token).encode()
    return ([], LISTENER + written) if written.startswith(b"?") else ([written], LISTENER)


def check_answer(client: RawClient, lines: list[bytes], target: bytes, wanted: object) -> None:
    answer = ask(client, *lines, target=target)
    code = json.loads(answer.body)["code"] if answer.status != 200 else None
    assert (answer.status, code) == wanted
    challenges = ", ".join(answer.values("www-authenticate"))
    if answer.status == 200:
        assert challenges == ""
        return
    assert 'Bearer realm="listener"' in challenges
    assert BASIC_CHALLENGE in challenges
    if code == "invalid_token":
        assert 'error="invalid_token"' in challenges
    if code == "missing_credentials":
        assert "error" not in challenges


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("spelling", TOKEN_SPELLINGS)
def test_a_token_in_this_spelling_and_state_gets_its_exact_answer(
    spelling: str, state: str, client: RawClient, tokens: Tokens
) -> None:
    lines, target = spell(spelling, getattr(tokens, state, None))
    check_answer(client, lines, target, STATES[state])


@pytest.mark.parametrize("state", [*STATES][:-2])  # neither malformed nor absent
@pytest.mark.parametrize("place", PLACES_IN_BASIC)
def test_a_token_in_basic_and_in_the_pair_gets_its_exact_answer(
    place: str, state: str, client: RawClient, tokens: Tokens
) -> None:
    pair = place.format(getattr(tokens, state)).encode()
    account, _, password = pair.partition(b":")
    wanted = STATES[state]
    if place == "acme:{}" and state == "unknown":  # it has no checksum of ours
        wanted = 401, "invalid_password"
    check_answer(client, [b"Authorization: Basic " + base64.b64encode(pair)], LISTENER, wanted)
    lines = [b"username: " + account, b"password: " + password]
    check_answer(client, lines, LISTENER, wanted)


@pytest.mark.parametrize("state", PASSWORDS)
def test_the_pair_in_this_state_gets_its_exact_answer(state: str, client: RawClient) -> None:
    pair, *wanted = PASSWORDS[state]
    account, colon, password = (pair or "").encode().partition(b":")
    lines = [b"username: " + account] if colon else []
    if pair is not None:
        lines.append(b"password: " + (password or (account if not colon else b"")))
    check_answer(client, lines, LISTENER, tuple(wanted))


@pytest.mark.parametrize("state", PASSWORDS)
def test_a_password_in_this_state_gets_its_exact_answer(state: str, client: RawClient) -> None:
    pair, *wanted = PASSWORDS[state]
    lines = []
    if pair is not None:
        lines = [b"Authorization: Basic " + base64.b64encode(pair.encode())]
    check_answer(client, lines, LISTENER, tuple(wanted))


def test_a_public_route_asks_for_nothing(client: RawClient) -> None:
    assert ask(client, target=b"/status").body == b"account= target=/status body=0"


def test_a_token_of_one_day_has_a_redis_ttl_of_a_day_and_an_unlimited_one_none(
    tokens: Tokens, redis: RedisServer
) -> None:
    assert 86_000 < redis.command("TTL", key_of(tokens.valid)) <= 86_400
    assert redis.command("TTL", key_of(tokens.unlimited)) == -1


def test_a_token_whose_key_is_gone_is_refused(
    proxy: ProxyProcess, redis: RedisServer, client: RawClient
) -> None:
    token = create_token(proxy.config, "acme", "soon gone", 1)
    line = b"access_token: " + token.encode()
    assert ask(client, line).status == 200
    assert redis.command("DEL", key_of(token)) == 1
    deadline = time.monotonic() + 2
    while (status := ask(client, line).status) == 200 and time.monotonic() < deadline:
        pass
    assert status == 401


def test_redis_expires_the_key_with_the_token(
    proxy: ProxyProcess, redis: RedisServer, client: RawClient
) -> None:
    token = create_token(proxy.config, "acme", "expires", 1)
    redis.command("PEXPIRE", key_of(token), 1)
    time.sleep(0.01)
    assert ask(client, b"access_token: " + token.encode()).status == 401
