"""What a request's errors are answered with, and what an authorization says about forwarding it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from sidecar.config.settings import Settings
from sidecar.core.errors import StoreUnavailable, UpstreamTimeout
from sidecar.core.model import Denial
from sidecar.core.routes import RouteMatch
from sidecar.observability.fault_log import FaultLog
from sidecar.proxy.exchange import Authorization, denial_of
from sidecar.proxy.header_cache import ParsedHeaders
from sidecar.proxy.rules import Rules
from sidecar.runtime.build import build_rules
from sidecar.wire.requests import RequestRefused

SECRET = "legacy-token-of-the-old-system"


@pytest.fixture
def faults() -> FaultLog:
    return FaultLog(logging.getLogger("sidecar"))


def test_a_refusal_is_answered_with_its_own_words(faults: FaultLog) -> None:
    refusal = RequestRefused("body_too_large", "The body may have 7 bytes.")
    assert denial_of(refusal, "id", faults) == Denial("body_too_large", refusal.detail)


@pytest.mark.parametrize("fault", [StoreUnavailable("redis: reset"), UpstreamTimeout("no head")])
def test_a_fault_is_answered_with_its_code_and_its_message_is_logged(
    fault: StoreUnavailable | UpstreamTimeout, faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    denial = denial_of(fault, "an-id", faults)
    assert denial.code == fault.code
    assert str(fault) not in denial.detail
    assert f"{fault} (request an-id)" in caplog.text


def test_of_any_other_error_only_the_place_is_logged(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message could quote a credential."""
    assert denial_of(ValueError(SECRET), "an-id", faults).code == "internal_error"
    assert "request an-id failed: ValueError" in caplog.text
    assert SECRET not in caplog.text


def authorization_for(rules: Rules, raw_target: str, query: str | None) -> Authorization:
    parsed = ParsedHeaders(rules, [(b"Host", b"a")])
    asked = Authorization(parsed, parsed.cached, "GET", raw_target, "192.0.2.1", is_trusted=False)
    place = rules.routes.find("GET", raw_target)
    assert isinstance(place, RouteMatch)
    asked.target, _, asked.route, _ = place
    asked.query = query
    return asked


async def test_an_upstream_gets_a_query_without_credentials_unless_it_is_to_have_them(
    rules: Rules,
) -> None:
    for name, sent in [("plain", "/plain?a=1"), ("forwarding", "/forwarding?a=1&access_token=x")]:
        asked = authorization_for(rules, f"/{name}?a=1&access_token=x", "a=1")
        assert asked.hides_credential
        assert asked.upstream_target(rules.upstreams[name]) == sent


async def test_a_query_that_holds_nothing_but_a_credential_leaves_no_question_mark(
    rules: Rules,
) -> None:
    asked = authorization_for(rules, "/plain?access_token=x", None)
    assert asked.upstream_target(rules.upstreams["plain"]) == "/plain"


async def test_an_authorization_is_not_granted_until_it_was_judged(rules: Rules) -> None:
    asked = authorization_for(rules, "/plain", None)
    assert repr(asked) == "<Authorization GET is_granted=False>"
    assert not asked.hides_credential


async def test_only_a_trusted_peer_is_believed_about_who_is_calling() -> None:
    settings = Settings.model_validate(
        {
            "upstreams": {"a": {"url": "http://127.0.0.1:1"}},
            "routes": [{"path": "/**"}],
            "trusted_proxies": ["10.0.0.0/8"],
        },
        context={"directory": Path()},
    )
    rules = build_rules(settings, asyncio.get_running_loop())
    headers = ParsedHeaders(rules, [(b"Host", b"a"), (b"X-Forwarded-For", b"203.0.113.5")])
    for is_trusted, client in [(True, "203.0.113.5"), (False, "10.0.0.1")]:
        asked = Authorization(headers, headers.cached, "GET", "/", "10.0.0.1", is_trusted)
        assert asked.client == client
