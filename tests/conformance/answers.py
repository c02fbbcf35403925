"""Group Y: what a service sends so that a caller, or the next one, takes it for something else."""

from __future__ import annotations

from tests.conformance.case import BEARER, LISTENER, Case, Do, authorized, request
from tests.conformance.oracle import Observation
from tests.conformance.upstream import OK, broken, upstream_closed
from tests.upstream_recorder import Act, answer

FORGED = answer(headers=[b"X-Forged: 1"], body=b"forged")
GENUINE = answer(body=b"genuine")
SECOND = LISTENER + b"?2"

SIZED = b"Content-Length: %d\r\n\r\n%b" % (len(FORGED), FORGED)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(FORGED), FORGED)


def no_forgery(seen: Observation) -> None:
    """Neither this caller nor the next gets a byte of what the interim answer held."""
    for answered in seen.answers:
        assert answered is None or b"forged" not in answered.body
    upstream_closed(seen)


def forges(name: str, *script: bytes | float, method: bytes = b"GET") -> Case:
    """Return a case of an interim answer whose body is the answer to a pipelined request."""
    return Case(
        name=name,
        weight=5,
        send=(authorized(method=method) + authorized(target=SECOND),),
        method=method,
        answers=(502, 200),
        answer_body=b"account=acme target=%b body=0" % SECOND,
        seen=(LISTENER, SECOND),
        scripts=((*script, Act.HOLD),),
        check=no_forgery,
    )


INTERIM_BODIES = [
    forges(f"Y1 {status} with a body {what}", b"HTTP/1.1 %d X\r\n" % status + framed + GENUINE)
    for status in (100, 102, 103, 104, 199)
    for what, framed in (("with a length", SIZED), ("in chunks", CHUNKED))
] + [
    forges("Y1 an interim body, and no answer", b"HTTP/1.1 104 X\r\n" + SIZED),
    forges(
        "Y1 an interim body that comes later", b"HTTP/1.1 104 X\r\n" + SIZED[:30], 0.05, GENUINE
    ),
    forges(
        "Y1 a head a byte at a time",
        *(bytes([byte]) for byte in b"HTTP/1.1 104 X\r\n" + SIZED + GENUINE),
    ),
    forges(
        "Y1 behind an honest interim answer",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 199 X\r\n" + CHUNKED + GENUINE,
    ),
    Case(
        name="Y1 to HEAD",
        weight=5,
        send=(authorized(method=b"HEAD"),),
        method=b"HEAD",
        answers=(502,),
        seen=(LISTENER,),
        scripts=((b"HTTP/1.1 104 X\r\n" + SIZED + GENUINE, Act.HOLD),),
        check=no_forgery,
    ),
    Case(
        name="Y1 a 101 with a body",
        weight=5,
        send=(
            authorized(
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Version: 13",
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ),
        ),
        answers=(502,),
        code="upstream_broken",
        seen=(LISTENER,),
        scripts=(
            (
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\n" + SIZED,
                Act.HOLD,
            ),
        ),
        check=no_forgery,
    ),
    Case(
        name="Y1 an interim answer that says it has none is passed on without saying so",
        send=(authorized(),),
        answers=(200,),
        answer_body=b"genuine",
        closes=False,
        seen=(LISTENER,),
        scripts=((b"HTTP/1.1 104 X\r\nContent-Length: 0\r\nX-Hint: 1\r\n\r\n" + GENUINE,),),
        check=lambda seen: _has_hint(seen),
    ),
]


def _has_hint(seen: Observation) -> None:
    (hint,) = seen.answer.interim
    assert (hint.status, hint.values("x-hint"), hint.values("content-length")) == (104, ["1"], [])


PROTOCOLS = [
    broken(f"Y4 {protocol.decode()} {what}", *pieces)
    for protocol in (b"RTSP/1.0", b"RTSP/1.1", b"ICE/1.0", b"ICE/1.1")
    for head in (protocol + b" 200 OK\r\nContent-Length: 2\r\n\r\nok",)
    for what, pieces in (
        ("in one piece", (head,)),
        ("in two", (head[:2], 0.02, head[2:])),
        ("behind an empty line", (b"\r\n" + head,)),
        ("behind a head of HTTP", (b"HTTP/1.1 103 Early Hints\r\n\r\n" + head,)),
    )
]

# Each answer, the body that the caller gets of it, and whether only the connection's end ends it.
WHOLE = (
    ("sized", b"GET", 200, b"abc", OK + b"Content-Length: 3\r\n\r\nabc"),
    ("empty", b"GET", 200, b"", OK + b"Content-Length: 0\r\n\r\n"),
    (
        "in chunks",
        b"GET",
        200,
        b"abc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    ("until the end", b"GET", 200, b"abc", OK + b"\r\nabc"),
    ("until the end, empty", b"GET", 200, b"", OK + b"\r\n"),
    ("204", b"GET", 204, b"", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ("304", b"GET", 304, b"", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
    ("to HEAD", b"HEAD", 200, b"", OK + b"Content-Length: 3\r\n\r\n"),
    ("the last", b"GET", 200, b"abc", OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc"),
)


ENDS = [
    Case(
        name=f"Y6 {what}, {how}",
        weight=5,
        send=(authorized(method=method), Do.READ, authorized(method=method, target=SECOND)),
        method=method,
        answers=(status, status),
        closes=False,
        seen=(LISTENER, SECOND),
        scripts=((*pieces, Act.CLOSE), (data, Act.CLOSE)),
        answer_body=body,
        check=lambda seen: _came_over_two(seen),
    )
    for what, method, status, body, data in WHOLE
    for how, pieces in (
        ("in one segment with the end", (data,)),
        ("in single bytes", tuple(data[i : i + 1] for i in range(len(data)))),
    )
]


def _came_over_two(seen: Observation) -> None:
    first, second = seen.exchanges
    assert first.connection != second.connection


CLOSING = [
    Case(
        name=f"Y5 {line.decode()}: nobody else's request goes there",
        weight=5,
        send=(
            request(BEARER, b"Content-Length: 2", method=b"POST", body=b"hi"),
            Do.READ,
            request(BEARER, b"Content-Length: 2", method=b"POST", target=SECOND, body=b"hi"),
        ),
        answers=(200, 200),
        closes=False,
        seen=(LISTENER, SECOND),
        scripts=((Act.READ_BODY, answer(headers=[line], body=b"ok"), Act.HOLD),),
        check=lambda seen: _came_over_two(seen),
    )
    for line in (
        b"Connection: close",
        b"connection:CLOSE",
        b"Connection: keep-alive, close",
        b"Connection: close, X-Other",
        b"Connection: keep-alive\r\nConnection: close",
    )
]

CASES: list[Case] = [*INTERIM_BODIES, *PROTOCOLS, *ENDS, *CLOSING]
