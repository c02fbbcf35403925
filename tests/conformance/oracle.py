"""Plays one case and judges all that came of it; what holds for every case is said here, once.

After each case: every identity header at most once and with the right value, nothing of a
credential in what the upstream, the logs or the client were given, an honest user served as ever.
"""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.conformance.case import Case, Do, Status
from tests.conformance.raw_client import Answer, RawClient
from tests.conformance.stage import HONEST_TARGET, IDENTITY_HEADERS, Stage
from tests.upstream_recorder import Exchange, fold

HELD_BACK = {
    "authorization",
    "access-token",
    "jwt-token",
    "password",
    "proxy-authorization",
    "proxy-connection",
    "keep-alive",
    "http2-settings",
    "trailer",
}
_PUBLIC_SECRET_CHARS = 5  # a token's prefix is no secret


@dataclass(slots=True)
class Observation:
    """What came of a case."""

    case: Case
    stage: Stage
    answers: list[Answer | None]
    tail: bytes
    """Raw bytes after the last answer."""
    exchanges: list[Exchange]
    upstream_bytes: bytes
    logs: str
    """What the proxies wrote since the case began."""
    store_requests: bytes

    @property
    def answer(self) -> Answer:
        """The last answer there was."""
        return [answer for answer in self.answers if answer is not None][-1]

    @property
    def exchange(self) -> Exchange:
        """The last request that reached the upstream whole."""
        return [exchange for exchange in self.exchanges if exchange.is_complete][-1]

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the access log's lines of this case: those between two of the honest user."""
        honest = self.stage.honest[self.case.proxy]
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            lines = self.stage.proxies[self.case.proxy].access_lines()
            marks = [place for place, line in enumerate(lines) if line["account"] == "globex"]
            if len(marks) == honest.calls:
                return lines[marks[-2] + 1 : marks[-1]]
            time.sleep(0.01)
        raise AssertionError("the access log lacks lines")


class Played:
    """The client's side of a case, as it is being played."""

    def __init__(self, case: Case, stage: Stage) -> None:
        self._case = case
        self._stage = stage
        self.client = RawClient(stage.proxies[case.proxy].connect())
        self.answers: list[Answer | None] = []
        self.has_left = False

    def run(self) -> bytes:
        """Send, read what is expected and what is not; return raw bytes after the last answer."""
        for step in self._case.send:
            self._play(step)
        if self.has_left:
            return b""
        while len(self.answers) < len(self._case.answers):
            self.answers.append(self.client.read_answer(self._case.method))
        return self._end()

    def _play(self, step: bytes | float | Do) -> None:
        if isinstance(step, bytes):
            self.client.send(self._stage.fill(step))
        elif isinstance(step, float):
            time.sleep(step)
        elif step is Do.READ:
            self.answers.append(self.client.read_answer(self._case.method))
        elif step is Do.HALF_CLOSE:
            self.client.half_close()
        else:
            self.client.close()
            self.has_left = True

    def _end(self) -> bytes:
        if self._case.closes:
            statuses = [answer.status for answer in self.answers if answer]
            assert self.client.is_closed(), (
                f"answered {statuses}, and the connection stays open: {self.client.unread!r}"
            )
            return b""
        if self._case.closes is False:
            target = HONEST_TARGET + b"?same-connection"
            request = b"GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
            self.client.send(self._stage.fill(request % target))
            answer = self.client.read_answer()
            assert answer is not None, "the connection was closed"
            assert answer.body == b"account=acme target=%s body=0" % target, (
                f"the next request on the connection was answered {answer.status} {answer.body!r}"
            )
        self.client.half_close()
        return self.client.read_bytes(65536)


def play(case: Case, stage: Stage) -> None:
    """Play ``case`` and raise ``AssertionError`` for whatever must not be."""
    stage.honest[case.proxy].call()
    recorder = stage.recorder
    mark, logged, asked = recorder.mark(), len(stage.logs()), stage.monitor.mark()
    recorder.play(*case.scripts)
    played = Played(case, stage)
    try:
        tail = played.run()
    finally:
        recorder.play()
        played.client.close()
    stage.honest[case.proxy].call()
    exchanges = [
        exchange
        for exchange in recorder.requests_since(mark)
        if not exchange.target.startswith(HONEST_TARGET)
    ]
    seen = Observation(
        case,
        stage,
        played.answers,
        tail,
        exchanges,
        recorder.bytes_since(mark),
        stage.logs()[logged:],
        stage.monitor.since(asked),
    )
    judge(seen, bytes(played.client.received))


def judge(seen: Observation, received: bytes) -> None:
    """Judge everything that a case can say, then what holds for all."""
    judge_answers(seen)
    judge_upstream(seen)
    for exchange in seen.exchanges:
        judge_identity(seen.case, exchange)
    if seen.case.asks_store is False:
        honest = seen.stage.key(seen.stage.secrets["other"]).encode()
        asked = seen.store_requests.replace(honest, b"").splitlines()
        about_tokens = [
            line
            for line in asked
            if b"sidecar:token:" in line and b"sidecar:used:" not in line and b" lua] " not in line
        ]  # the last uses of earlier cases are written a while later, by a script
        assert not about_tokens, f"Redis was asked: {about_tokens}"
    judge_leaks(seen, received)
    if seen.case.check:
        seen.case.check(seen)


def judge_answers(seen: Observation) -> None:
    statuses = [answer.status if answer else 0 for answer in seen.answers]
    assert all(map(is_allowed, statuses, seen.case.answers)), (
        f"answered {statuses}, expected {seen.case.answers}"
    )
    assert len(statuses) == len(seen.case.answers)
    if statuses and statuses[-1] != 101:
        assert not seen.tail, f"more came after the last answer: {seen.tail[:300]!r}"
    for answer in seen.answers:
        if answer and is_own(answer):
            judge_problem(answer)
    if seen.case.code:
        code = json.loads(seen.answer.body)["code"]
        assert code in _several(seen.case.code), f"code {code}, expected {seen.case.code}"
    for name, values in seen.case.answer_has.items():
        assert seen.answer.values(name) == values, f"{name}: {seen.answer.values(name)}"
    for name in seen.case.answer_lacks:
        assert seen.answer.values(name) == [], name
    if seen.case.answer_body is not None:
        assert seen.answer.body == seen.case.answer_body, f"body {seen.answer.body[:200]!r}"


def is_allowed(status: int, expected: Status) -> bool:
    return status == expected if isinstance(expected, int) else status in expected


def is_own(answer: Answer) -> bool:
    return answer.values("content-type") == ["application/problem+json"]


def judge_problem(answer: Answer) -> None:
    """A denial or error is a whole problem document (RFC 9457), not stored, with its challenge."""
    if answer.body:  # there is none for HEAD
        document = json.loads(answer.body)
        assert document.keys() >= {"title", "status", "code", "detail", "request_id"}
        assert document["status"] == answer.status
    assert answer.values("cache-control") == ["no-store"]
    assert bool(answer.values("www-authenticate")) == (answer.status == 401)
    if answer.status in (429, 503):
        assert answer.values("retry-after")


def _several(code: str | tuple[str, ...]) -> tuple[str, ...]:
    return (code,) if isinstance(code, str) else code


def judge_upstream(seen: Observation) -> None:
    case = seen.case
    whole = [exchange.target for exchange in seen.exchanges if exchange.is_complete]
    refused = any(answer and answer.status == 400 for answer in seen.answers[:1])
    expected = case.seen if not (refused and is_allowed(400, case.answers[0])) else ()
    wanted = [seen.stage.fill(target) for target in expected]
    assert whole == wanted, f"the upstream saw {whole}, expected {wanted}"
    if not case.may_begin:
        assert len(seen.exchanges) == len(whole), "a request reached the upstream in part"
    if not whole:
        return
    for name, expected_values in case.present.items():
        values = [seen.stage.fill(value) for value in expected_values]
        assert seen.exchange.values(name) == values, f"{name}: {seen.exchange.values(name)}"
    for name in case.absent:
        assert seen.exchange.values(name) == [], f"{name} was forwarded"
    if case.body is not None:
        assert bytes(seen.exchange.body) == case.body, f"body {bytes(seen.exchange.body)[:200]!r}"


def judge_identity(case: Case, exchange: Exchange) -> None:
    """Every identity header at most once, in our spelling; the account's exactly as promised."""
    if not case.may_begin:
        accounts = exchange.values("x-account")
        assert accounts == ([case.account] if case.account else []), f"identity {accounts}"
    names = [name for name, _ in exchange.headers]
    for ours in IDENTITY_HEADERS:
        spellings = [name for name in names if fold(name) == ours.lower()]
        assert spellings in ([], [ours.encode()]), f"identity headers {spellings}"
    if not case.shows:
        held_back = HELD_BACK & {fold(name) for name in names}
        assert not held_back, f"forwarded: {held_back}"


def judge_leaks(seen: Observation, received: bytes) -> None:
    """No credential, whole or in part, plain or encoded, in anything written or sent."""
    stage = seen.stage
    own = [stage.fill(secret) for secret in seen.case.secrets]
    for name, secret in [*stage.secrets.items(), *(("of this case", secret) for secret in own)]:
        places = {"the logs": seen.logs.encode(), "Redis": seen.store_requests}
        if name not in seen.case.shows:
            places |= {"the upstream": seen.upstream_bytes, "an answer": received}
        for place, text in places.items():
            assert not shows(text, secret), f"secret {name!r} shows in {place}"


def shows(text: bytes, secret: bytes) -> bool:
    """Tell whether ``text`` holds a part of ``secret``, plain, percent-encoded or in base64."""
    texts = [text] + ([unquote_to_bytes(text)] if b"%" in text else [])
    return any(needle in each for needle in needles(secret) for each in texts)


def needles(secret: bytes) -> list[bytes]:
    """Return what betrays a secret: a middle part, and the whole in base64 at each alignment."""
    part = secret[_PUBLIC_SECRET_CHARS : _PUBLIC_SECRET_CHARS + 16]
    encoded = [base64.b64encode(b"\0" * shift + secret)[4:-4] for shift in range(3)]
    return [part, *(re.sub(rb"=+$", b"", text) for text in encoded)]
