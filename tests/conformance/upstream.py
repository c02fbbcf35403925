"""Group U: an upstream that is down, slow, broken or hostile."""

# ruff: noqa: E501  (a table reads best with a row a line)

from __future__ import annotations

import time

from tests.conformance.case import BEARER, LISTENER, Case, Do, authorized, request
from tests.conformance.oracle import Observation
from tests.upstream_recorder import Act, Exchange, Script, UpstreamConnection, answer

OK = b"HTTP/1.1 200 OK\r\n"
POISON = answer(body=b"account=acme target=poison")


def broken(name: str, *script: bytes | float | Act, code: str = "upstream_broken") -> Case:
    """Return a case of an answer that can't be relayed: 502, and that connection is closed."""
    return Case(
        name=name,
        send=(authorized(),),
        answers=(502,),
        code=code,
        seen=(LISTENER,),
        scripts=((*script, Act.HOLD),),
        check=upstream_closed,
    )


def upstream_closed(seen: Observation) -> None:
    """The connection that misbehaved is closed and never used again."""
    assert seen.exchange.ended.wait(3), "the upstream connection was kept"


def cut_short(seen: Observation) -> None:
    """The client can tell that the answer is not whole."""
    answered = seen.answers[0]
    assert answered is None or answered.status == 502 or not answered.is_complete


def sent_once(seen: Observation) -> None:
    assert len(seen.exchanges) == 1


DOWN = [
    Case(
        name="U1 down",
        send=(authorized(target=b"/down/a"),),
        answers=(502,),
        code="upstream_unreachable",
    ),
    Case(
        name="U1 down, with a body",
        send=(authorized(b"Content-Length: 5", method=b"POST", target=b"/down/a", body=b"abcde"),),
        answers=(502,),
        code="upstream_unreachable",
    ),
    Case(
        name="U1 a slow connect",
        send=(authorized(target=b"/stuck/a"),),
        answers=(504,),
        code="upstream_timeout",
    ),
    Case(
        name="U1 a slow head",
        send=(authorized(),),
        answers=(504,),
        code="upstream_timeout",
        seen=(LISTENER,),
        scripts=((Act.HOLD,),),
        check=upstream_closed,
    ),
    Case(
        name="U1 half a head",
        send=(authorized(),),
        answers=(504,),
        code="upstream_timeout",
        seen=(LISTENER,),
        scripts=((OK + b"Content-Le", Act.HOLD),),
        check=upstream_closed,
    ),
    Case(
        name="U1 a refusal needs no upstream",
        send=(request(target=b"/down/a"),),
        answers=(401,),
        code="missing_credentials",
    ),
]

TRUNCATED = [
    Case(
        name=f"U2 {what}",
        weight=5,
        send=(authorized(),),
        answers=((0, 200, 502),),
        seen=(LISTENER,),
        closes=closes,
        scripts=(script,),
        check=cut_short,
    )
    for what, closes, script in (
        (
            "a sized body cut short",
            True,
            (OK + b"Content-Length: 100\r\n\r\nabcde", 0.05, Act.CLOSE),
        ),
        ("a sized body reset", True, (OK + b"Content-Length: 100\r\n\r\nabcde", 0.05, Act.RESET)),
        (
            "a chunked body without its end",
            True,
            (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", 0.05, Act.CLOSE),
        ),
        (
            "a chunked body without its last CRLF",
            True,
            (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n", 0.05, Act.CLOSE),
        ),
        (
            "a bad chunk size on the way",
            True,
            (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", 0.05, b"zz\r\n", Act.HOLD),
        ),
        (
            "a body that stops",
            True,
            (OK + b"Content-Length: 100\r\n\r\nabcde", Act.HOLD),
        ),
    )
] + [
    broken("U2 a head cut short", OK + b"Content-Le", Act.CLOSE),
    Case(
        name="U2 a body that ends with the connection is whole",
        send=(authorized(),),
        answers=(200,),
        answer_body=b"abcde",
        seen=(LISTENER,),
        scripts=((OK + b"Connection: close\r\n\r\nabcde", Act.CLOSE),),
    ),
]

BROKEN = [
    broken(f"U3 {what}", head)
    for what, head in (
        ("CL and TE", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"),
        ("TE and CL", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"),
        ("two lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
        ("a list of lengths", OK + b"Content-Length: 5, 6\r\n\r\nabcdef"),
        ("a negative length", OK + b"Content-Length: -5\r\n\r\nabcde"),
        ("a signed length", OK + b"Content-Length: +5\r\n\r\nabcde"),
        ("a huge length", OK + b"Content-Length: 99999999999999999999\r\n\r\nabcde"),
        ("an empty length", OK + b"Content-Length:\r\n\r\n"),
        ("an unknown coding", OK + b"Transfer-Encoding: xchunked\r\n\r\nabcde"),
        ("chunked twice", OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked, not last", OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("NUL in a value", OK + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("a control character in a value", OK + b"X-A: a\x01b\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/0.9", b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("not HTTP", b"220 mail.example ESMTP\r\n\r\n"),
        ("a body without a head", b"<html>hello</html>\r\n\r\n"),
        ("TLS", b"\x15\x03\x03\x00\x02\x02\x28" + b"\r\n\r\n"),
        ("an empty name", OK + b": a\r\nContent-Length: 0\r\n\r\n"),
        ("no colon", OK + b"X-A\r\nContent-Length: 0\r\n\r\n"),
        ("status 99", b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n"),
        ("status 1000", b"HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n"),
        ("status 2x0", b"HTTP/1.1 2x0 Odd\r\nContent-Length: 0\r\n\r\n"),
        ("a head of 1 MiB", OK + b"X-A: " + b"a" * 1_048_576 + b"\r\nContent-Length: 0\r\n\r\n"),
        ("100 000 headers", OK + b"X-A: a\r\n" * 100_000 + b"Content-Length: 0\r\n\r\n"),
    )
]  # fmt: skip

LOOSE = [
    Case(
        name=f"U3 {what} is put right",
        send=(authorized(),),
        answers=(200,),
        answer_body=b"abcde",
        seen=(LISTENER,),
        scripts=((head + b"\r\nabcde",),),
    )
    for what, head in (
        ("HTTP/1.2", b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n"),
        ("obs-fold", OK + b"X-A: a\r\n b\r\nContent-Length: 5\r\n"),
        ("bare LF", OK + b"X-A: a\nX-B: b\r\nContent-Length: 5\r\n"),
        ("a space before the colon", OK + b"Content-Length : 5\r\n"),
    )
]


def not_split(seen: Observation) -> None:
    assert seen.answer.values("x-evil") == []
    assert seen.answer.values("set-cookie") == []


ECHOED = [
    broken("U4 a bare CR in an echoed value", OK + b"X-Echo: a\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n"),
    broken("U4 a bare CR in the reason", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"),
    *(
        Case(
            name=f"U4 a request id {value!r} is never given back as it came",
            send=(authorized(b"X-Request-Id: " + value),),
            answers=(200,),
            seen=(LISTENER,),
            check=not_split,
        )
        for value in (b"a%0d%0aX-Evil: 1", b"a\xc4\x8d\xc4\x8aX-Evil: 1", b"a" * 5000, b"a\tb", b'"><script>')
    ),
]  # fmt: skip


def relays_three(seen: Observation) -> None:
    """Early hints come through before the answer, 100 Continue asked by nobody does not."""
    assert [interim.status for interim in seen.answer.interim] == [103, 103, 103]


def is_bounded(seen: Observation) -> None:
    assert seen.exchange.ended.wait(5), "the flood was read to its end"


def floods(interim: bytes) -> Script:
    def flood(connection: UpstreamConnection, exchange: Exchange) -> None:
        for _ in range(2000):
            connection.sock.sendall(interim * 50)
        connection.sock.sendall(POISON)

    return (flood,)


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
INTERIM = [
    Case(
        name="U5 three early hints are relayed",
        send=(authorized(),),
        answers=(200,),
        seen=(LISTENER,),
        scripts=((HINT * 3 + answer(body=b"ok"),),),
        check=relays_three,
    ),
    Case(
        name="U5 a flood of 100",
        send=(authorized(),),
        answers=((502, 0),),
        seen=(LISTENER,),
        scripts=(floods(b"HTTP/1.1 100 Continue\r\n\r\n"),),
        check=is_bounded,
    ),
    Case(
        name="U5 a flood of 103",
        send=(authorized(),),
        answers=((502, 0),),
        seen=(LISTENER,),
        scripts=(floods(HINT),),
        check=is_bounded,
    ),
]


def not_reused(seen: Observation) -> None:
    """What came next went over another connection than the one with a body half sent."""
    half_sent = {e.connection for e in seen.exchanges if not e.is_complete}
    later = seen.stage.recorder.exchanges[-1]
    assert later.connection not in half_sent


EARLY = [
    Case(
        name=f"U6 an early answer while the body still flows ({what})",
        weight=5,
        send=(
            authorized(*lines, method=b"POST", body=first),
            Do.READ,
            *rest,
        ),
        answers=(200,),
        answer_body=b"early",
        may_begin=True,
        scripts=((answer(body=b"early"), 0.1, Act.HOLD),),
        check=not_reused,
    )
    for what, lines, first, rest in (
        ("sized", (b"Content-Length: 100000",), b"x" * 1000, ()),
        ("chunked", (b"Transfer-Encoding: chunked",), b"5\r\nabcde\r\n", ()),
        (
            "the rest is a request",
            (b"Content-Length: 1000",),
            b"x" * 10,
            (authorized(target=LISTENER + b"?hidden"),),
        ),
    )
]

GONE: Script = (Act.CLOSE,)
STALE = [
    Case(
        name="U7 a GET on a connection that had gone is tried once more",
        weight=5,
        send=(authorized(),),
        answers=(200,),
        seen=(LISTENER, LISTENER),
        scripts=(GONE,),
    ),
    Case(
        name="U7 a GET on a connection that is reset is tried once more",
        weight=5,
        send=(authorized(),),
        answers=(200,),
        seen=(LISTENER, LISTENER),
        scripts=((Act.RESET,),),
    ),
    Case(
        name="U7 a GET is not tried a third time",
        weight=5,
        send=(authorized(),),
        answers=(502,),
        seen=(LISTENER, LISTENER),
        scripts=(GONE, GONE),
    ),
    *(
        Case(
            name=f"U7 {method.decode()} with a body is never sent twice",
            weight=5,
            send=(authorized(b"Content-Length: 5", method=method, body=b"abcde"),),
            answers=(502,),
            seen=(LISTENER,),
            scripts=((Act.READ_BODY, Act.CLOSE),),
            check=sent_once,
        )
        for method in (b"POST", b"PATCH")
    ),
    Case(
        name="U7 a POST without a body is never sent twice",
        weight=5,
        send=(authorized(b"Content-Length: 0", method=b"POST"),),
        answers=(502,),
        seen=(LISTENER,),
        scripts=((Act.READ_BODY, Act.CLOSE),),
        check=sent_once,
    ),
    Case(
        name="U7 a GET that was answered in part is not tried again",
        weight=5,
        send=(authorized(),),
        answers=(502,),
        seen=(LISTENER,),
        scripts=((b"HTTP/1.1 2", Act.CLOSE),),
        check=sent_once,
    ),
]


def closed_after(seen: Observation) -> None:
    assert seen.exchange.ended.wait(3), "a connection with bytes left over was kept"
    assert b"poison" not in b"".join(answer.body for answer in seen.answers if answer)


EXTRA = [
    Case(
        name=f"U8 {what}",
        weight=5,
        send=(authorized(method=method), Do.READ, 0.1),
        method=method,
        answers=(status,),
        answer_body=body,
        closes=False,
        seen=(LISTENER,),
        scripts=((*script, Act.HOLD),),
        check=closed_after,
    )
    for what, method, status, body, script in (
        ("a second answer at once", b"GET", 200, b"ok", (answer(body=b"ok") + POISON,)),
        ("a second answer a little later", b"GET", 200, b"ok", (answer(body=b"ok"), 0.05, POISON)),
        ("junk after the answer", b"GET", 200, b"ok", (answer(body=b"ok") + b"\r\njunk",)),
        (
            "a second answer after a chunked one",
            b"GET",
            200,
            b"ok",
            (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + POISON,),
        ),
        ("a body to HEAD", b"HEAD", 200, b"", (answer(body=b"account=acme target=poison"),)),
        ("a body to 204", b"GET", 204, b"", (b"HTTP/1.1 204 No Content\r\n\r\n" + POISON,)),
        ("a body to 304", b"GET", 304, b"", (b"HTTP/1.1 304 Not Modified\r\n\r\n" + POISON,)),
    )
]


def two_users(connection: UpstreamConnection, exchange: Exchange) -> None:
    """Answer, and put a second answer in wait for whoever comes next."""
    connection.sock.sendall(answer(body=b"ok"))
    time.sleep(0.02)
    connection.sock.sendall(POISON)


POOLED = [
    Case(
        name="U8 an answer laid in wait reaches nobody",
        weight=5,
        send=(authorized(), Do.READ, 0.1, authorized(target=LISTENER + b"?2")),
        answers=(200, 200),
        answer_body=b"account=acme target=" + LISTENER + b"?2 body=0",
        seen=(LISTENER, LISTENER + b"?2"),
        scripts=((two_users,),),
    ),
]


def own_401(seen: Observation) -> None:
    assert seen.answer.body == b"mine"


UNTOUCHED = [
    Case(
        name="U9 the upstream's own 401 is its own",
        send=(authorized(),),
        answers=(401,),
        closes=False,
        answer_has={"www-authenticate": ['Digest realm="theirs"']},
        seen=(LISTENER,),
        scripts=((answer(b"401 Mine", [b'WWW-Authenticate: Digest realm="theirs"'], b"mine"),),),
        check=own_401,
    ),
    Case(
        name="U9 Set-Cookie twice",
        send=(authorized(),),
        answers=(200,),
        answer_has={"set-cookie": ["a=1; Path=/", "b=2"]},
        seen=(LISTENER,),
        scripts=((answer(headers=[b"Set-Cookie: a=1; Path=/", b"Set-Cookie: b=2"]),),),
    ),
    Case(
        name="U9 Connection: X-Secret removes what it names",
        send=(authorized(),),
        answers=(200,),
        answer_lacks=("x-secret", "keep-alive", "proxy-connection", "upgrade"),
        answer_has={"x-kept": ["1"]},
        seen=(LISTENER,),
        scripts=(
            (
                answer(
                    headers=[
                        b"Connection: X-Secret, close",
                        b"X-Secret: a",
                        b"x-secret: b",
                        b"X-Kept: 1",
                        b"Keep-Alive: timeout=5",
                        b"Proxy-Connection: keep-alive",
                        b"Upgrade: h2c",
                    ]
                ),
                Act.CLOSE,
            ),
        ),
    ),
    Case(
        name="U9 the upstream's Connection: close ends its connection, not the client's",
        send=(authorized(),),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        scripts=((answer(headers=[b"Connection: close"]), Act.CLOSE),),
    ),
    Case(
        name="U9 trailers are not merged into the head",
        send=(authorized(),),
        answers=(200,),
        closes=False,
        answer_body=b"ok",
        answer_lacks=("x-late", "set-cookie"),
        seen=(LISTENER,),
        scripts=(
            (
                OK + b"Transfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
                b"2\r\nok\r\n0\r\nX-Late: 1\r\nSet-Cookie: a=1\r\n\r\n",
            ),
        ),
    ),
    Case(
        name="U9 header order, case and duplicates of an answer",
        send=(request(BEARER),),
        answers=(200,),
        seen=(LISTENER,),
        scripts=((answer(headers=[b"x-b: 1", b"X-A: 2", b"X-b: 3", b"x-OBS: \xe9"]),),),
        check=lambda seen: _has_in_order(seen, [b"x-b", b"X-A", b"X-b", b"x-OBS"]),
    ),
    Case(
        name="U9 an HTTP/1.0 upstream",
        send=(authorized(),),
        answers=(200,),
        answer_body=b"old",
        seen=(LISTENER,),
        scripts=((b"HTTP/1.0 200 OK\r\n\r\nold", Act.CLOSE),),
    ),
    Case(
        name="U9 an empty reason",
        send=(authorized(),),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        scripts=((b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",),),
    ),
]


def _has_in_order(seen: Observation, names: list[bytes]) -> None:
    assert [name for name, _ in seen.answer.headers if name in names] == names


CASES: list[Case] = [
    *DOWN,
    *TRUNCATED,
    *BROKEN,
    *LOOSE,
    *ECHOED,
    *INTERIM,
    *EARLY,
    *STALE,
    *EXTRA,
    *POOLED,
    *UNTOUCHED,
    Case(
        name="U0 the recorder's own answer",
        send=(authorized(),),
        answers=(200,),
        answer_body=b"account=acme target=%s body=0" % LISTENER,
        seen=(LISTENER,),
        closes=False,
    ),
]
