"""The proxy, the decision endpoint and ``sidecar explain`` say the same of any request."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli.explain import explain_head
from sidecar.cli.explanation import Explanation
from sidecar.config.settings import Settings
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.passwords import hash_password
from sidecar.observability.access_log import RequestLog
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.listener import operations_app
from sidecar.operations.original import find_misleading
from sidecar.runtime.build import build_rules
from tests.in_process import TOKEN, Peer, Proxy, running_proxy
from tests.old_jwts import jwt_of

PASSWORD = "p:w"
ENDED, GONE = "a-token-that-has-ended", "a-token-of-an-account-that-is-gone"
OLD_JWT, UNKNOWN_JWT = jwt_of({"sub": "somebody"}), jwt_of({"sub": "nobody"})
LIMITED, DISABLED = "a-token-with-paths-of-its-own", "a-token-of-a-disabled-account"
HOST = "shop.example"

METHODS = ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "PURGE", "get"]
SEGMENTS = [
    *("calls", "calls", "open", "only", "read", "a", "b1", "%61", "%2e", "..", ".", "", "%2F", "A"),
    *(
        "c%61lls",
        "a;v=1",
        "a%20b",
        "a|b",
        "%00",
        "%zz",
        "a\\b",
        "~x",
        "open%2f",
        "%5C",
        "caf%C3%A9",
    ),
    *("files", "files", "ids", "ids", "a%2Fb", "a%2fadmin", "admin", "b%2F..", "a%252Fb"),
    *("maybe", "maybe", "lenient", "lenient", "own", "own"),
]
TOKENS = [
    TOKEN,
    TOKEN,
    TOKEN,
    LIMITED,
    DISABLED,
    ENDED,
    GONE,
    OLD_JWT,
    UNKNOWN_JWT,
    "unknown-token-of-nobody",
    "short",
    "",
    f'"{TOKEN}"',
    f"Bearer:{TOKEN}",
    f"{TOKEN},",
    "${TOKEN_OF_SOMEBODY}",
    "null",
]
PARAMETERS = [
    "token",
    "access_token",
    "jwt_token",
    "key",
    "%6bey",
    "%74oken",
    "Token",
    "a",
    "b[]",
    "",
]
LINES = [
    *(
        "Accept: */*",
        "X-Account: admin",
        "X_Account: admin",
        "access-token: x",
        "Connection: close",
    ),
    *(
        "Connection: access_token, X-Account",
        "Referer: http://a/?token=x",
        "Cookie: a=b",
        "Proxy: x",
    ),
    *("Forwarded: for=1.1.1.1", "X-Forwarded-For: 1.1.1.1", "traceparent: junk", "X-Real-IP: 1"),
]


def basic(pair: str) -> str:
    return f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}"


SETTINGS: dict[str, Any] = {
    "upstreams": {"service": {"url": "http://127.0.0.1:9"}},
    "routes": [
        {"path": "/open/**", "public": True},
        {"path": "/only/{x}", "accounts": ["other"]},
        {"path": "/read", "methods": ["GET", "HEAD"], "credentials": ["header"]},
        {"path": "/ids/{id}/admin"},
        {"path": "/ids/{id}", "encoded_slash": True},
        {"path": "/files/**", "encoded_slash": True},
        {"path": "/maybe/**", "credentials": "optional"},
        {
            "path": "/lenient/**",
            "public": True,
            "credentials": {"optional": True, "basic": False},
            "bad_credentials": "ignore",
        },
        {"path": "/own/**", "credentials": {"query": ["key"]}},
        {"path": "/calls/**"},
    ],
    "accounts": {
        "acme": {
            "password_hash": hash_password(PASSWORD),
            "paths": [
                "/calls/**",
                "/read",
                "/ids/**",
                "/files/a*/**",
                "/maybe/**",
                "/lenient/a/**",
                "/own/**",
            ],
        },
        "other": {},
        "off": {"disabled": True},
    },
}


@dataclass(frozen=True)
class Asked:
    """A request as a caller sends it."""

    method: str
    target: str
    lines: list[str]

    def head(self, target: str | None = None, *more: str) -> bytes:
        lines = [f"{self.method} {target or self.target} HTTP/1.1", f"Host: {HOST}"]
        return "\r\n".join([*lines, *self.lines, *more, "", ""]).encode("latin-1")


token_lines = st.builds(
    lambda form, token: form + token,
    st.sampled_from(["Authorization: Bearer ", "access_token: ", "jwt_token: ", "Authorization: "]),
    st.sampled_from(TOKENS),
)
password_lines = st.sampled_from(
    [basic(f"acme:{PASSWORD}"), basic("acme:no"), basic("x"), basic("")]
)
lines = st.lists(
    st.one_of(token_lines, token_lines, password_lines, st.sampled_from(LINES)), max_size=3
)
queries = st.lists(
    st.builds(
        lambda n, v: f"{n}={v}", st.sampled_from(PARAMETERS), st.sampled_from([*TOKENS, "1"])
    ),
    max_size=3,
).map("&".join)
paths = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map(lambda s: "/" + "/".join(s))
targets = st.builds(
    lambda form, path, query: f"{form}{path}{query and '?'}{query}",
    st.sampled_from(["", "", "", "", f"http://{HOST}"]),
    paths,
    queries,
)
requests = st.builds(Asked, st.sampled_from(METHODS), targets, lines)


@dataclass(frozen=True)
class Verdict:
    """What is said of a request, by whom ever."""

    status: int
    code: str
    route: str
    account: str
    form: str
    token_id: str
    path: str
    detail: str


UNREAD = Verdict(400, "bad_request", "", "", "", "", "", "")


def verdict_of(entry: RequestLog) -> Verdict:
    told = (entry.route, entry.account, str(entry.form), entry.token_id, entry.path, entry.detail)
    return Verdict(entry.status, entry.code, *told)


def verdict_told(told: Explanation, detail: str) -> Verdict:
    """Return the verdict of an explanation, whose reason begins with the ``detail``."""
    assert told.why.startswith(detail)
    values = (told.route, told.account, told.credential, told.token_id, told.path, detail)
    return Verdict(told.status or 200, told.code or "", *(value or "" for value in values))


def field_of(head: bytes, name: str) -> list[str]:
    found = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [v.strip().decode("latin-1") for n, _, v in found if n.lower() == name.lower().encode()]


@dataclass(repr=False)
class Stage:
    """All three, on one gateway and one store."""

    proxy: Proxy
    settings: Settings
    decision_port: int
    decided: list[RequestLog] = field(default_factory=list)
    arrived: list[bytes] = field(default_factory=list)

    async def forward(self, asked: Asked) -> tuple[Verdict, list[bytes]]:
        """Send it to the proxy; return the verdict and the heads that reached the service."""
        self.arrived.clear()
        before = len(self.proxy.entries)
        await converse(self.proxy.port, asked.head(None, "Connection: close"))
        await self.proxy.settle(lambda: len(self.proxy.entries) > before)
        return verdict_of(self.proxy.entries[-1]), [*self.arrived]

    async def decide(self, asked: Asked, how: str) -> tuple[Verdict, bytes]:
        """Ask ``/auth`` about it in one of three ways; return the verdict and the answer's head."""
        before = len(self.decided)
        if how == "itself":
            question = asked.head(f"/auth{asked.target}", "Connection: close")
        else:
            told = (f"{how}-Method: {asked.method}", f"{how}-Uri: {asked.target}")
            question = Asked("GET", "", asked.lines).head(
                "/auth?statuses=all", *told, "Connection: close"
            )
        head = await converse(self.decision_port, question)
        if len(self.decided) == before:  # the listener's own parser could not read it
            assert b" 400 " in head
            return UNREAD, head
        return verdict_of(self.decided[-1]), head


async def converse(port: int, sent: bytes) -> bytes:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    await peer.send(sent)
    answer = await peer.rest()
    await peer.close()
    return answer.partition(b"\r\n\r\n")[0]


def record_of(token: str, account: str, **more: Any) -> TokenRecord:
    digest = sha256(token.encode()).hexdigest()
    made = {"created_at": time.time() - 9, "expires_at": None, **more}
    return TokenRecord(
        id=f"id-{digest[:8]}",
        account=account,
        name=token[:40],
        kind=TokenKind.IMPORTED,
        digest=digest,
        **made,
    )


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    async def ping() -> None:
        return None

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(running_proxy())
        settings = Settings.model_validate(SETTINGS, context={"directory": Path()})
        stage = Stage(proxy, settings, 0)

        async def note(peer: Peer) -> None:
            with suppress(TimeoutError):  # idle, as the pool has closed others
                while head := await peer.until(b"\r\n\r\n"):
                    stage.arrived.append(head)
                    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        proxy.upstream.scripts = [note]
        port = proxy.pool.destination.port
        plain = {**SETTINGS, "upstreams": {"service": {"url": f"http://127.0.0.1:{port}"}}}
        stage.settings = Settings.model_validate(plain, context={"directory": Path()})
        proxy.gateway.rules = build_rules(stage.settings, asyncio.get_running_loop())
        for record in (
            record_of(LIMITED, "acme", paths=("/calls/a",)),
            record_of(DISABLED, "off"),
            record_of(ENDED, "acme", expires_at=time.time() - 1),
            record_of(GONE, "nobody"),
            record_of(OLD_JWT, "acme"),
        ):
            await proxy.store.create(record)
        decisions = Decisions(proxy.gateway, lambda entry, now: stage.decided.append(entry))
        app = operations_app(Health(ping, lambda: False), decisions=decisions)
        server = TestServer(app)
        await server.start_server()
        stack.push_async_callback(server.close)
        assert server.port is not None
        stage.decision_port = server.port
        yield stage


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[asyncio.Runner, Stage]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = staged()
        yield runner, runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


@given(requests)
def test_the_proxy_the_decision_and_the_explanation_agree(
    stage: tuple[asyncio.Runner, Stage], asked: Asked
) -> None:
    runner, parts = stage
    runner.run(check_agreement(parts, asked))


async def check_agreement(stage: Stage, asked: Asked) -> None:
    verdict, arrived = await stage.forward(asked)
    told = await explain_head(stage.proxy.gateway, stage.settings, asked.head())
    assert verdict_told(told, verdict.detail) == verdict
    assert (len(arrived), told.passes) == (verdict.status == 200, verdict.status == 200)
    rules = stage.proxy.gateway.rules.headers
    sent = [line.partition(": ")[::2] for line in asked.lines]
    headers = [(name.encode(), value.encode()) for name, value in sent]
    for how in ("X-Original", "X-Forwarded", "itself"):
        if how == "itself" and not asked.target.startswith("/"):
            continue
        decided, head = await stage.decide(asked, how)
        if find_misleading(rules, headers) is not None:
            assert decided.code == "bad_request"
            assert field_of(head, "X-Account") == []
            continue
        if decided is UNREAD:  # the listener's own parser knows no 501
            assert verdict.code == UNREAD.code
            verdict = replace(verdict, status=UNREAD.status, detail="")
        assert decided == verdict
        identity: Mapping[str, list[str]] = {
            "X-Account": [verdict.account] if verdict.status == 200 and verdict.account else [],
            "X-Auth-Uri": [arrived[0].split(b" ")[1].decode()] if arrived else [],
        }
        assert {name: field_of(head, name) for name in identity} == identity
        for request in arrived:
            assert field_of(request, "X-Account") == identity["X-Account"]
