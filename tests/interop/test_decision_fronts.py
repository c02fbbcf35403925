"""nginx, Caddy, HAProxy and Envoy ask the sidecar, with the configurations that are shipped.

Each is started for real, between callers and a service that records every byte. What a caller gets
and what the service sees must be as if the sidecar itself stood there: each case is played through
the sidecar's own proxy, too, and the two are compared.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO, StringIO, TextIOWrapper
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from sidecar.cli.main import main
from sidecar.core.passwords import hash_password
from sidecar.core.tokens import MAX_JWT_CHARS
from tests.conformance.raw_client import Answer, MalformedAnswerError, RawClient
from tests.e2e.conftest import PASSWORD, key_of, plain_settings, redis_binary
from tests.interop.decision_cases import (
    CASES,
    GOOD,
    GROUPS,
    IN_BASIC,
    LISTENER,
    PAIR,
    STATES,
    STATUS,
    Case,
)
from tests.interop.decision_fronts import FRONTS, running_front
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, running_redis
from tests.upstream_recorder import Act, Exchange, Recorder, answer, fold

ACCEPT = b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
UMLAUT = "pa\u00dfwort-m\u00fcller"
CALLER = "127.0.0.2"  # not a front's own address, which the sidecar trusts
FAILURES = 300  # more than the cases make from one address


class Credentials(dict[str, str]):
    """What goes into the cases' texts, by name; ``secrets`` are those that are good."""

    @property
    def secrets(self) -> list[bytes]:
        good = ("access_valid", "jwt_valid", "password")
        return [self[name].encode() for name in good] + [
            self[name].rstrip("=").encode()
            for name in self
            if name.startswith("basic_") and ("valid" in name or "latin" in name or "utf" in name)
        ]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def service() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def sidecar(
    redis: RedisServer,
    service: Recorder,
    key: Ed25519PrivateKey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ProxyProcess]:
    settings: dict[str, Any] = plain_settings(redis, service.url)
    settings["accounts"]["other"] = {}
    settings["accounts"]["umlaut"] = {"password_hash": hash_password(UMLAUT)}
    settings["routes"].append({"path": "/get-only", "methods": ["GET"]})
    settings["routes"].append({"path": "/others", "accounts": ["other"]})
    settings["trusted_proxies"] = ["127.0.0.1"]
    settings["throttle"] = {"failures": FAILURES, "window": "1m", "ban": "1m"}
    settings["store"]["cache"] = {"tokens": 0}
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    settings["jwt"] = {"keys": [{"id": "k1", "private_key": pem}]}
    with ProxyProcess(tmp_path_factory.mktemp("sidecar"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def credentials(sidecar: ProxyProcess, redis: RedisServer, key: Ed25519PrivateKey) -> Credentials:
    made = Credentials(
        access_unknown="sct_an_imported_token_that_nobody_has_ever_imported",
        access_malformed="short",
        jwt_malformed="eyJhbGciOiJFZERTQSJ9.e30.",
        password=PASSWORD,
    )
    for name in ("access_valid", "access_expired", "access_revoked", "jwt_valid", "jwt_revoked"):
        asked = ("--account", "acme", "--name", name, "--days", "1", "--kind", name.split("_")[0])
        made[name] = run_token_command(sidecar, "create", *asked).strip()
    listed = json.loads(run_token_command(sidecar, "list", "--json"))
    ids = {token["name"]: token["id"] for token in listed}
    for name in ("access_revoked", "jwt_revoked"):
        run_token_command(sidecar, "revoke", ids[name])
    assert redis.command("PEXPIRE", key_of(made["access_expired"]), 1) == 1
    made["jwt_expired"] = resign(made["jwt_valid"], key, exp=int(time.time()) - 3600)
    for size in (9, 15):
        groups = ["x" * 93] * (size * 8)
        made[f"jwt_{size}_kib"] = resign(made["jwt_valid"], key, groups=groups)
    longest = (resign(made["jwt_valid"], key, pad="x" * size) for size in range(11_800, 12_200))
    made["jwt_16_kib"] = max(filter(is_short_enough, longest), key=len)
    made["jwt_unknown"] = resign(made["jwt_valid"], Ed25519PrivateKey.generate())
    pairs = {
        "valid": f"acme:{PASSWORD}",
        "wrong": "acme:the-password-of-last-year",
        "unknown": f"nobody:{PASSWORD}",
        "empty": "acme:",
        "malformed": "no colon",
    }
    for state, pair in pairs.items():
        made[f"basic_{state}"] = base64.b64encode(pair.encode()).decode()
    for (where, pair), kind, state in product(IN_BASIC.items(), ("access", "jwt"), STATES):
        sent = pair.replace("{token}", made[f"{kind}_{state}"])
        made[f"basic_{kind}_{state} {where}"] = base64.b64encode(sent.encode()).decode()
    made["basic_unpadded"] = made["basic_valid"].rstrip("=")
    made["basic_url"] = base64.urlsafe_b64encode(b"acme:>>>???>>>???").decode()
    for encoding in ("latin_1", "utf_8"):
        made[f"basic_{encoding}"] = base64.b64encode(f"umlaut:{UMLAUT}".encode(encoding)).decode()
    return made


def run_token_command(sidecar: ProxyProcess, *arguments: str) -> str:
    """Run ``sidecar token`` in this process, as starting one costs a second; return what it says
    on standard output.
    """
    output, said = StringIO(), TextIOWrapper(BytesIO())
    with redirect_stdout(output), redirect_stderr(said):
        status = main(["token", *arguments, "--config", str(sidecar.config)])
    assert status == 0, said.buffer.getvalue()
    return output.getvalue()


def is_short_enough(token: str) -> bool:
    return len(token) <= MAX_JWT_CHARS


def resign(token: str, key: Ed25519PrivateKey, **claims: object) -> str:
    """Return the JWT with other claims, signed by ``key``."""
    head, told = jwt.get_unverified_header(token), jwt.decode(token, options=UNVERIFIED)
    return jwt.encode({**told, **claims}, key, "EdDSA", headers=head)


UNVERIFIED: Any = {"verify_signature": False}


@pytest.fixture(scope="module", params=FRONTS)
def front(
    request: pytest.FixtureRequest,
    sidecar: ProxyProcess,
    service: Recorder,
    credentials: Credentials,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[int]:
    """Run a front; whatever it wrote meanwhile holds no credential."""
    directory = tmp_path_factory.mktemp(request.param)
    with running_front(request.param, directory, operations_port(sidecar), service.port) as port:
        yield port
    written = b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())
    assert [secret for secret in credentials.secrets if secret in written] == []


def operations_port(sidecar: ProxyProcess) -> int:
    return int(sidecar.settings["operations"]["address"].rpartition(":")[2])


class Verdict(NamedTuple):
    """What came of a call, as far as proxy and front must agree."""

    status: int
    code: str | None
    challenge: str
    allow: list[str]
    expires: list[str]
    cache_control: list[str]
    """Of an answer of the service's."""
    interim: list[int]
    upstream: list[tuple[bytes, bytes, list[bytes], int]]
    """Of what reached the service: method, target, accounts, and the body's size."""


@dataclass(frozen=True)
class Seen:
    """What came of a call: the caller's answer (none: the connection was closed), and what reached
    the service.
    """

    answer: Answer | None
    requests: list[Exchange]
    data: bytes

    @property
    def status(self) -> int:
        return 0 if self.answer is None else self.answer.status

    @cached_property
    def verdict(self) -> Verdict:
        answer = self.answer
        if answer is None:
            return Verdict(0, None, "", [], [], [], [], self.upstream)
        return Verdict(
            answer.status,
            self._code,
            ", ".join(answer.values("www-authenticate")),
            answer.values("allow") if answer.status == 405 else [],
            answer.values("x-token-expires"),
            answer.values("cache-control") if self.requests else [],
            [interim.status for interim in answer.interim],
            self.upstream,
        )

    @property
    def _code(self) -> str | None:
        assert self.answer is not None
        is_problem = self.answer.values("content-type")[:1] == ["application/problem+json"]
        return json.loads(self.answer.body)["code"] if is_problem and self.answer.body else None

    @property
    def upstream(self) -> list[tuple[bytes, bytes, list[bytes], int]]:
        return [
            (request.method, request.target, accounts_of(request), request.body_bytes)
            for request in self.requests
        ]


def accounts_of(request: Exchange) -> list[bytes]:
    """Return the values of every field that a service may take for the account."""
    return [value for name, value in request.headers if fold(name) == "x-account"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls whoever listens at ``port``, one connection a call."""

    port: int
    service: Recorder
    address: str = CALLER

    def connect(self) -> RawClient:
        address = ("127.0.0.1", self.port)
        return RawClient(socket.create_connection(address, PATIENCE_SECONDS, (self.address, 0)))

    def call(
        self,
        target: str = LISTENER,
        *lines: str,
        method: str = "GET",
        body: bytes = b"",
        version: str = "HTTP/1.1",
        host: str = "Host: shop.example",
    ) -> Seen:
        mark = self.service.mark()
        named = [host] if host else []
        head = [f"{method} {target} {version}", *named, *lines, "", ""]
        client = self.connect()
        try:
            client.send("\r\n".join(head).encode("latin-1") + body)
            answer = client.read_answer(method.encode())
        except (ConnectionResetError, MalformedAnswerError):
            answer = None
        finally:
            client.close()
        requests = self.service.requests_since(mark)
        return Seen(answer, requests, self.service.bytes_since(mark))

    def play(self, case: Case, credentials: Mapping[str, str]) -> Seen:
        """Play a case; again if the answer is "I don't know", of the sidecar or of the front.

        A busy machine may take longer to hash a password than a front waits for the sidecar.
        """
        target, *lines = (text.format_map(credentials) for text in (case.target, *case.lines))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            seen = self.call(
                target,
                *lines,
                method=case.method,
                body=case.body,
                version=case.version,
                host=case.host,
            )
            is_known = seen.status not in (503, 504) or case.any_refusal
            if is_known or time.monotonic() > deadline:
                return seen
            time.sleep(0.2)


@pytest.fixture
def caller(front: int, service: Recorder) -> Caller:
    """Return a caller from an address that no other front is called from."""
    return Caller(front, service, f"127.0.{front >> 8}.{front & 0xFE | 1}")


@pytest.fixture(scope="module")
def played(
    sidecar: ProxyProcess, service: Recorder, credentials: Credentials
) -> Mapping[str, Seen]:
    """Play every case through the sidecar's own proxy; what came of it, by name."""
    proxy = Caller(sidecar.port, service)
    return {case.name: proxy.play(case, credentials) for case in CASES}


LONE = "username: lone-user"
USER_NAMES = {
    "alone": ((LONE,), [b"lone-user"]),
    "in capitals": (("USERNAME: lone-user",), [b"lone-user"]),
    "beside a password": (PAIR, []),
    "beside an empty password": (("username: lone-user", "password: "), []),
    "twice, beside a password": ((LONE, LONE, "Password: x"), []),
}


@pytest.mark.parametrize("sent", USER_NAMES)
def test_a_user_name_is_forwarded_exactly_if_no_password_came_with_it(
    sent: str, caller: Caller, sidecar: ProxyProcess, service: Recorder, credentials: Credentials
) -> None:
    lines, forwarded = USER_NAMES[sent]
    for asked in (Caller(sidecar.port, service), caller):
        seen = asked.call(STATUS, *(line.format_map(credentials) for line in lines))
        [request] = seen.requests
        names = [(fold(name), value) for name, value in request.headers]
        assert [value for name, value in names if name == "username"] == forwarded
        assert [value for name, value in names if name == "password"] == []


def test_the_cases_have_names_of_their_own_and_many_pass() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert sum(case.status == 200 for case in CASES) > len(CASES) // 3


@pytest.mark.parametrize("group", GROUPS)
def test_the_proxy_itself_gives_each_case_its_status(
    group: str, played: Mapping[str, Seen], credentials: Credentials
) -> None:
    for case in GROUPS[group]:
        seen = played[case.name]
        assert (case.name, seen.status, bool(seen.requests)) == (
            case.name,
            case.status,
            case.status == 200,
        )
        check_secrets(seen, credentials)


@pytest.mark.parametrize("group", GROUPS)
def test_a_call_gets_what_the_sidecar_itself_would_give(
    group: str, caller: Caller, played: Mapping[str, Seen], credentials: Credentials
) -> None:
    differences = {}
    for case in GROUPS[group]:
        seen = caller.play(case, credentials)
        check_secrets(seen, credentials)
        assert b"admin" not in seen.data
        assert b"root" not in seen.data
        wanted, got = played[case.name].verdict, seen.verdict
        if got.code is None:  # HEAD has no body, and of a 401 nginx keeps its own
            wanted = wanted._replace(code=None)
        if got != wanted and not is_proper_refusal(case, seen):
            differences[case.name] = (got, wanted)
    assert differences == {}


def test_a_service_gets_its_own_name_if_a_caller_of_http_1_0_names_none(
    caller: Caller, service: Recorder, credentials: Credentials
) -> None:
    good = GOOD.format_map(credentials)
    seen = caller.call(LISTENER, good, version="HTTP/1.0", host="")
    assert [request.values("host") for request in seen.requests] == [
        [f"127.0.0.1:{service.port}".encode()]
    ]


def test_a_service_gets_both_of_two_fields(caller: Caller, credentials: Credentials) -> None:
    seen = caller.call(LISTENER, GOOD.format_map(credentials), "Content-Type: a", "Content-Type: b")
    assert [b",".join(request.values("content-type")) for request in seen.requests] == [b"a,b"]


def is_proper_refusal(case: Case, seen: Seen) -> bool:
    """Tell whether a front refuses what it may refuse though the proxy would not, or not so."""
    if seen.requests:
        return False
    return case.any_refusal or (case.may_refuse and seen.status in (400, 403))


def check_secrets(seen: Seen, credentials: Credentials) -> None:
    assert [secret for secret in credentials.secrets if secret in seen.data] == []


@pytest.mark.parametrize(
    "line",
    [
        *("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: evil", "X-Forwarded-For: 6.6.6.6"),
        *("X_Forwarded_Host: evil.example", "X-Forwarded-Server: evil", "Proxy: evil.example"),
    ],
)
def test_what_a_caller_says_of_earlier_hops_does_not_reach_the_service_or_the_log(
    caller: Caller, sidecar: ProxyProcess, credentials: Credentials, line: str
) -> None:
    request_id = f"hops-{caller.port}-{line.partition(':')[0]}"
    lines = [GOOD.format_map(credentials), f"X-Request-Id: {request_id}", line]
    seen = caller.call(LISTENER, *lines)
    assert seen.status in (200, 400, 403)
    assert b"evil" not in seen.data
    assert not any(value.startswith(b"6.6") for r in seen.requests for _, value in r.headers)
    if seen.requests:
        assert log_line(sidecar, request_id)["client"] == caller.address


def log_line(sidecar: ProxyProcess, request_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while not (lines := [li for li in sidecar.access_lines() if li["request_id"] == request_id]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (line,) = lines
    return line


def test_a_websocket_is_judged_and_tunnelled(
    caller: Caller, service: Recorder, credentials: Credentials
) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    lines = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    assert caller.call(LISTENER, *lines).status == 401
    service.play((switch + ACCEPT, Act.ECHO))
    mark = service.mark()
    target = f"{LISTENER}?token={credentials['access_valid']}"
    client = caller.connect()
    client.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode())
    answer = client.read_answer()
    assert answer is not None
    assert answer.status == 101
    client.send(b"over the tunnel")
    assert client.read_bytes(15) == b"over the tunnel"
    client.close()
    (request,) = service.requests_since(mark)
    assert (request.target, accounts_of(request)) == (LISTENER.encode(), [b"acme"])


def test_the_decision_is_a_line_of_the_access_log_with_the_callers_own_request(
    caller: Caller, sidecar: ProxyProcess, credentials: Credentials
) -> None:
    request_id = f"decision-{caller.port}"
    caller.call(f"{LISTENER}?token={credentials['access_valid']}", f"X-Request-Id: {request_id}")
    line = log_line(sidecar, request_id)
    assert (line["method"], line["path"], line["status"]) == ("GET", LISTENER, 200)
    assert (line["account"], line["form"], line["upstream"]) == ("acme", "query", None)
    assert line["client"] == caller.address
    assert credentials["access_valid"] not in sidecar.stdout + sidecar.stderr


def test_what_the_service_says_of_caches_stands(
    caller: Caller, service: Recorder, credentials: Credentials
) -> None:
    service.play((answer(headers=[b"Cache-Control: max-age=60"], body=b"ok"),))
    seen = caller.call(f"{LISTENER}?token={credentials['access_valid']}")
    assert seen.answer is not None
    assert seen.answer.values("cache-control") == ["max-age=60"]


def test_after_too_many_failures_a_caller_gets_429_and_is_told_how_long(
    caller: Caller, credentials: Credentials
) -> None:
    guesser = replace(caller, address="127.1" + caller.address[5:])
    statuses: Counter[int] = Counter()
    for number in range(2 * FAILURES):
        last = guesser.call(LISTENER, f"access_token: a-guess-that-is-wrong-{number}")
        statuses[last.status] += 1
        if last.status == 429:
            break
    assert (statuses[401], statuses[429]) == (FAILURES, 1)
    assert last.verdict.code == "too_many_failures"
    assert last.answer is not None
    assert 0 < int(last.answer.values("retry-after")[0]) <= 60
    assert guesser.call(LISTENER, GOOD.format_map(credentials)).status == 200
    assert caller.call(LISTENER, "access_token: a-guess-that-is-wrong").status == 401


def test_the_callers_trace_is_the_decisions_and_the_services(
    caller: Caller, sidecar: ProxyProcess, credentials: Credentials
) -> None:
    trace, request_id = "0af7651916cd43dd8448eb211c80319c", f"trace-{caller.port}"
    traceparent = f"traceparent: 00-{trace}-b7ad6b7169203331-01"
    lines = [GOOD.format_map(credentials), traceparent, f"X-Request-Id: {request_id}"]
    (request,) = caller.call(LISTENER, *lines).requests
    assert [value[3:35] for value in request.values("traceparent")] == [trace.encode()]
    assert log_line(sidecar, request_id)["trace_id"] == trace


def test_a_token_is_not_called_bad_while_the_store_is_away(
    caller: Caller, redis: RedisServer, credentials: Credentials
) -> None:
    redis.pause()
    try:
        seen = caller.call(LISTENER, GOOD.format_map(credentials))
    finally:
        redis.resume()
    assert (seen.status, seen.requests) == (503, [])
    assert seen.answer is not None
    assert seen.answer.values("retry-after") == ["1"]


# When whoever listens there is not the sidecar, or is not well.


class Impostor:
    """Listens where a front expects the sidecar; sends ``says`` to each question and closes, or
    with ``None`` says nothing at all.
    """

    def __init__(self) -> None:
        self.says: bytes | None = b""
        self._held: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for sock in self._held:
            sock.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.says is None:
                self._held.append(sock)
                continue
            with sock:
                sock.settimeout(PATIENCE_SECONDS)
                asked = b""
                while b"\r\n\r\n" not in asked and (piece := sock.recv(65536)):
                    asked += piece
                sock.sendall(self.says)


def said(status: str, *lines: str, body: str = "") -> bytes:
    head = [f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*head, "", body]).encode()


NO_LEAVE = {
    "500": said("500 Internal Server Error"),
    "502": said("502 Bad Gateway", "X-Auth-Uri: /status"),
    "503": said("503 Service Unavailable", "X-Auth-Uri: /status"),
    "404": said("404 Not Found", body="no such page"),
    "302": said("302 Found", "Location: /login"),
    "304": said("304 Not Modified"),
    "another service's 200": said("200 OK", "Content-Type: text/html", body="<h1>Hello</h1>"),
    "another service's 200 with an account": said("200 OK", "X-Account: admin"),
    "another service's 204": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "an empty target": said("200 OK", "X-Auth-Uri: ", "X-Account: admin"),
    "a cut head": b"HTTP/1.1 200 OK\r\nX-Auth-Uri: /sta",
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "nothing": b"",
}


@pytest.fixture(scope="module", params=FRONTS)
def misled(
    request: pytest.FixtureRequest, service: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Impostor]]:
    """Run a front that asks somebody else."""
    impostor = Impostor()
    directory = tmp_path_factory.mktemp(f"misled-{request.param}")
    with running_front(request.param, directory, impostor.port, service.port) as port:
        yield port, impostor
    impostor.close()


@pytest.mark.parametrize("answer", NO_LEAVE)
@pytest.mark.parametrize("target", [LISTENER, STATUS])
def test_nothing_passes_but_by_the_sidecars_own_leave(
    misled: tuple[int, Impostor], service: Recorder, answer: str, target: str
) -> None:
    port, impostor = misled
    impostor.says = NO_LEAVE[answer]
    seen = Caller(port, service).call(target, "access_token: whatever")
    assert (seen.requests, seen.status == 200) == ([], False)


def test_a_front_passes_what_leave_it_is_given(
    misled: tuple[int, Impostor], service: Recorder
) -> None:
    port, impostor = misled
    impostor.says = said("200 OK", f"X-Auth-Uri: {LISTENER}", "X-Account: a", "X-Request-Id: b")
    seen = Caller(port, service).call(LISTENER)
    assert seen.upstream == [(b"GET", LISTENER.encode(), [b"a"], 0)]


def test_nothing_passes_while_the_sidecar_is_silent_or_away(
    service: Recorder, tmp_path: Path, credentials: Credentials
) -> None:
    impostor, mark = Impostor(), service.mark()
    impostor.says = None
    good = GOOD.format_map(credentials)
    with ExitStack() as fronts, ThreadPoolExecutor(len(FRONTS)) as threads:
        fronts.callback(impostor.close)
        askers = []
        for name in FRONTS:
            (tmp_path / name).mkdir()
            running = running_front(name, tmp_path / name, impostor.port, service.port)
            askers.append(Caller(fronts.enter_context(running), service))
        silent = [*threads.map(lambda asker: asker.call(LISTENER, good).status, askers)]
        impostor.close()
        away = [asker.call(LISTENER, good).status for asker in askers]
        public = [asker.call(STATUS).status for asker in askers]
    assert {*silent, *away, *public} <= {502, 503, 504}
    assert service.requests_since(mark) == []
