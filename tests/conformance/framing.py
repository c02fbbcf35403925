"""Group S: framing that two parsers could read in two ways."""

from __future__ import annotations

from tests.conformance.case import BEARER, LISTENER, Case, Do, authorized, request
from tests.conformance.oracle import Observation
from tests.upstream_recorder import Act, Exchange, UpstreamConnection, answer

HIDDEN = b"GET /v1/dynamic/listener/hidden HTTP/1.1\r\nHost: shop.example\r\n\r\n"
HIDDEN_AUTHORIZED = authorized(target=b"/v1/dynamic/listener/hidden")
CHUNKED = b"Transfer-Encoding: chunked"
FIVE = b"5\r\nabcde\r\n0\r\n\r\n"
UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def refused(name: str, *send: bytes | float | Do, status: int | tuple[int, ...] = 400) -> Case:
    """Return a case of bad framing: refused, the connection closed, nothing whole upstream."""
    return Case(name=name, send=send, answers=(status,), closes=True, may_begin=True, account=None)


def post(*lines: bytes, body: bytes = b"abcde") -> bytes:
    return authorized(*lines, method=b"POST", body=body)


def raw_line(line: bytes) -> bytes:
    """Return an otherwise valid request with ``line`` and its own line end among the headers."""
    return b"GET %s HTTP/1.1\r\nHost: shop.example\r\n%s\r\n%s\r\n" % (LISTENER, BEARER, line)


CONTROLS = [
    Case(
        name="S0 a Content-Length body passes",
        send=(post(b"Content-Length: 5"),),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        body=b"abcde",
    ),
    Case(
        name="S0 a chunked body passes",
        send=(post(CHUNKED, body=FIVE),),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        body=b"abcde",
    ),
    Case(
        name="S0 a chunked body in pieces passes",
        send=(post(CHUNKED, body=b"5\r"), 0.02, b"\nab", 0.02, b"cde\r\n0\r\n", 0.02, b"\r\n"),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        body=b"abcde",
    ),
    Case(
        name="S0 HTTP/1.0 without a Host passes",
        send=(b"GET %s HTTP/1.0\r\n%s\r\n\r\n" % (LISTENER, BEARER),),
        answers=(200,),
        closes=True,
        seen=(LISTENER,),
    ),
]

LENGTHS = [
    Case(
        name=f"S3 content-length: {value!r}",
        send=(post(b"Content-Length: " + value),),
        answers=(400,),
        code="bad_request",
        closes=True,
    )
    for value in (
        b"+5",
        b"-0",
        b"-5",
        b"5_0",
        b"0x5",
        "٥".encode(),
        b"",
        b"5,6",
        b"5,5",
        b"5, 5",
        b"5 5",
        b"5.0",
        b"9223372036854775808",
        b"18446744073709551616",
        b"5;a=b",
        b"5\x0b",
    )
] + [
    refused("S3 two equal Content-Length", post(b"Content-Length: 5", b"Content-Length: 5")),
    refused("S3 two different Content-Length", post(b"Content-Length: 5", b"Content-Length: 0")),
]

CODINGS = [
    refused(
        f"S4 transfer-encoding: {value!r}",
        post(b"Transfer-Encoding: " + value, body=FIVE),
        status=(400, 501),
    )
    for value in (
        b"xchunked",
        b"chunkedx",
        b"\x0bchunked",
        b"chunked\x0b",
        b",chunked",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, identity",
        b"chunked, chunked",
        b"identity",
        b"",
        b"chunked;a=b",
        b'"chunked"',
        b"chu nked",
        b"gzip",
    )
] + [
    refused("S4 twice", post(CHUNKED, CHUNKED, body=FIVE)),
    refused("S4 chunked, then identity", post(CHUNKED, b"Transfer-Encoding: identity", body=FIVE)),
    refused("S4 empty, beside a length", post(b"Transfer-Encoding:", b"Content-Length: 5")),
    refused("S4 space before the colon", post(b"Transfer-Encoding : chunked", body=FIVE)),
]

HEADS = [
    refused("S5 bare CR in a value", raw_line(b"X-A: a\rb\r\n")),
    refused(
        "S5 bare CR in a value that looks like a header", raw_line(b"X-A: a\rX-Account: b\r\n")
    ),
    refused("S5 bare LF as a line end", raw_line(b"X-A: a\nX-B: b\r\n")),
    refused("S5 bare LF throughout", authorized().replace(b"\r\n", b"\n"), Do.HALF_CLOSE),
    refused("S5 NUL in a value", raw_line(b"X-A: a\0b\r\n")),
    refused("S5 NUL in a name", raw_line(b"X\0A: ab\r\n")),
    refused("S5 control character 0x01 in a value", raw_line(b"X-A: a\x01b\r\n")),
    refused("S5 vertical tab in a value", raw_line(b"X-A: a\x0bb\r\n")),
    refused("S5 DEL in a value", raw_line(b"X-A: a\x7fb\r\n")),
    refused("S5 CR ending the head", authorized()[:-2] + b"\r\rGET", Do.HALF_CLOSE),
    refused("S5 LF ending the head", authorized()[:-2] + b"\n" + HIDDEN, Do.HALF_CLOSE),
    refused("S6 obs-fold with a space", raw_line(b"X-A: a\r\n b\r\n")),
    refused("S6 obs-fold with a tab", raw_line(b"X-A: a\r\n\tb\r\n")),
    refused("S6 obs-fold of a framing header", post(b"Transfer-Encoding:\r\n chunked", body=FIVE)),
    refused("S6 space before the colon", raw_line(b"X-A : a\r\n")),
    refused("S6 tab before the colon", raw_line(b"X-A\t: a\r\n")),
    refused(
        "S6 leading space on the first header", b"GET %s HTTP/1.1\r\n Host: a\r\n\r\n" % LISTENER
    ),
    refused("S6 empty name", raw_line(b": a\r\n")),
    refused("S6 no colon", raw_line(b"X-A\r\n")),
    refused("S6 a space within a name", raw_line(b"X A: a\r\n")),
    refused(
        "S7 HTTP/1.0 with Transfer-Encoding",
        b"POST %s HTTP/1.0\r\nHost: a\r\n%s\r\n%s\r\n\r\n%s" % (LISTENER, BEARER, CHUNKED, FIVE),
    ),
    refused(
        "S7 HTTP/1.0 with Transfer-Encoding, kept alive",
        b"POST %s HTTP/1.0\r\nHost: a\r\n%s\r\nConnection: keep-alive\r\n%s\r\n\r\n%s"
        % (LISTENER, BEARER, CHUNKED, FIVE),
    ),
]

CHUNKS = [
    refused(f"S8 chunk size {size!r}", post(CHUNKED, body=size + b"\r\nabcde\r\n0\r\n\r\n"))
    for size in (
        b"5 ",
        b" 5",
        b"5\t",
        b"0x5",
        b"+5",
        b"-5",
        b"5_0",
        b"",
        b"g",
        b"00000000000000005"[:-1] + b"g",
        b"10000000000000005",
        b"fffffffffffffffff",
    )
] + [
    refused("S9 chunk extension with LF", post(CHUNKED, body=b"5;a\nb\r\nabcde\r\n0\r\n\r\n")),
    refused("S9 chunk extension with CR", post(CHUNKED, body=b"5;a\rb\r\nabcde\r\n0\r\n\r\n")),
    refused("S9 chunk extension with NUL", post(CHUNKED, body=b"5;a\0b\r\nabcde\r\n0\r\n\r\n")),
    refused(
        "S9 chunk extension of 64 KiB",
        post(CHUNKED, body=b"5;a=" + b"b" * 65536 + b"\r\nabcde\r\n0\r\n\r\n"),
        status=(400, 413, 431),
    ),
    refused("S9 chunk size ended by LF", post(CHUNKED, body=b"5\nabcde\r\n0\r\n\r\n")),
    refused("S10 no CRLF after a chunk", post(CHUNKED, body=b"5\r\nabcdefg0\r\n\r\n")),
    refused("S10 LF after a chunk", post(CHUNKED, body=b"5\r\nabcde\n0\r\n\r\n")),
    refused(
        "S10 bad size after a good chunk", post(CHUNKED, body=b"5\r\nabcde\r\n"), 0.1, b"zz\r\n"
    ),
]


def aborts_upstream(seen: Observation) -> None:
    """The request broken off by its client is broken off upstream, not completed."""
    for exchange in seen.exchanges:
        assert exchange.ended.wait(3), "the upstream connection stayed open"
        assert not exchange.is_complete


EARLY_CLOSES = [
    Case(
        name=f"S10 early close of a {name} body",
        send=(head, 0.1, Do.CLOSE, 0.1),
        answers=(),
        may_begin=True,
        check=aborts_upstream,
    )
    for name, head in (
        ("sized", post(b"Content-Length: 100", body=b"abcde")),
        ("chunked", post(CHUNKED, body=b"5\r\nabcde\r\n")),
        ("chunked, before the trailers' end,", post(CHUNKED, body=b"5\r\nabcde\r\n0\r\n")),
    )
]

TRAILED = [
    (b"X-Account: admin", "x-account"),
    (b"X_Account: admin", "x-account"),
    (b"Authorization: Bearer {other}", "authorization"),
    (b"Content-Length: 50", "content-length"),
    (b"Host: evil.example", "host"),
    (b"Transfer-Encoding: chunked", "transfer-encoding"),
    (b"X-Forwarded-For: 9.9.9.9", "x-forwarded-for"),
    (b"Connection: X-Account", "connection"),
]


def without_trailers(seen: Observation) -> None:
    """No trailer has come through, neither as one nor as a header of any request."""
    for exchange in seen.exchanges:
        assert exchange.trailers == b""
        for name, value in exchange.headers:
            assert value not in (b"admin", b"50", b"evil.example", b"9.9.9.9"), name
        assert exchange.values("host") == [b"shop.example"]


TRAILERS = [
    case
    for line, name in TRAILED
    for case in (
        Case(
            name=f"S11 trailer {name} ({line.decode()})",
            weight=5,
            send=(post(CHUNKED, body=b"5\r\nabcde\r\n0\r\n" + line + b"\r\n\r\n"),),
            answers=((200, 400),),
            seen=(LISTENER,),
            body=b"abcde",
            check=without_trailers,
        ),
        Case(
            name=f"S11 trailer {name} ({line.decode()}), then a pipelined request",
            weight=5,
            send=(
                post(CHUNKED, body=b"5\r\nabcde\r\n0\r\n" + line + b"\r\n\r\n")
                + authorized(target=LISTENER + b"?second"),
            ),
            answers=((200, 400), (200, 0)),
            seen=(LISTENER, LISTENER + b"?second"),
            body=b"",
            check=without_trailers,
        ),
        Case(
            name=f"S11 trailer {name} ({line.decode()}), then a request in a later segment",
            weight=5,
            send=(
                post(CHUNKED, body=b"5\r\nabcde\r\n0\r\n" + line + b"\r\n\r\n"),
                Do.READ,
                authorized(target=LISTENER + b"?second"),
            ),
            answers=((200, 400), (200, 0)),
            seen=(LISTENER, LISTENER + b"?second"),
            body=b"",
            check=without_trailers,
        ),
    )
] + [
    Case(
        name="S11 a trailer never authorizes the next request",
        weight=5,
        send=(
            post(CHUNKED, body=b"0\r\nAuthorization: Bearer {other}\r\n\r\n")
            + request(target=LISTENER + b"?second"),
        ),
        answers=(200, 401),
        code="missing_credentials",
        seen=(LISTENER,),
    ),
    Case(
        name="S11 a trailer never authorizes a request in a later segment",
        weight=5,
        send=(
            post(CHUNKED, body=b"0\r\nAuthorization: Bearer {other}\r\n\r\n"),
            Do.READ,
            request(target=LISTENER + b"?second"),
        ),
        answers=(200, 401),
        code="missing_credentials",
        seen=(LISTENER,),
    ),
]


def with_version(version: bytes) -> bytes:
    return b"GET %s %s\r\nHost: a\r\n%s\r\n\r\n" % (LISTENER, version, BEARER)


VERSIONS = [
    refused(f"S12 version {version.decode()}", with_version(version), status=(400, 505))
    for version in (
        b"HTTP/0.9",
        b"HTTP/1.2",
        b"HTTP/2.0",
        b"HTTP/3.0",
        b"HTTP/1.10",
        b"HTTP/01.1",
        b"HTTP/1",
        b"http/1.1",
        b"HTTPS/1.1",
        b"ICE/1.0",
        b"RTSP/1.0",
        b"RTSP/1.1",
    )
] + [
    # llhttp takes each of these for HTTP/1.x with the methods of its protocol.
    *(
        refused(f"Y4 {line.decode()}", b"%s\r\nHost: a\r\n%s\r\n\r\n" % (line, BEARER))
        for line in (
            b"OPTIONS %s RTSP/1.1" % LISTENER,
            b"POST %s RTSP/1.1" % LISTENER,
            b"DESCRIBE %s RTSP/1.0" % LISTENER,
            b"GET /open/a RTSP/1.1",
            b"SOURCE %s ICE/1.0" % LISTENER,
            b"SOURCE %s ICE/1.1" % LISTENER,
        )
    ),
    refused(
        "Y4 RTSP, a byte at a time",
        *(bytes([byte]) for byte in b"GET %s RTSP/1.1\r\n" % LISTENER),
        b"Host: a\r\n%s\r\n\r\n" % BEARER,
    ),
    Case(
        name="Y4 RTSP behind HTTP, on one connection",
        send=(authorized() + b"GET %s RTSP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (LISTENER, BEARER),),
        answers=(200, 400),
        code="bad_request",
        closes=True,
        seen=(LISTENER,),
    ),
    refused("S12 a simple request", b"GET %s\r\n\r\n" % LISTENER, status=(400, 505)),
    refused("S12 the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status=(400, 505)),
    refused(
        "S12 nonsense", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40 + b"\r\n\r\n"
    ),
    Case(
        name="S12 two spaces in the request line: refused, or read as one",
        send=(b"GET  %s HTTP/1.1\r\nHost: a\r\n\r\n" % LISTENER,),
        answers=((400, 401),),
    ),
    refused("S12 a tab in the request line", b"GET\t%s HTTP/1.1\r\nHost: a\r\n\r\n" % LISTENER),
    refused("S12 a space in the target", b"GET /v1 /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("S12 a space after the version", b"GET /a HTTP/1.1 \r\nHost: a\r\n\r\n"),
    refused("S12 a method that is no token", b"G(T /a HTTP/1.1\r\nHost: a\r\n\r\n"),
]

HOSTS = [
    refused(f"S13 host: {value!r}", request(BEARER, b"Host: " + value, host=False))
    for value in (
        b"",
        b"a, b",
        b"a,b",
        b"user@a",
        b"user:pass@a",
        b"a/b",
        b"/",
        b"a?b",
        b"a#b",
        b"a b",
        b"a\\b",
        b"a:80:80",
        b"a:port",
        b"a:99999",
        b"[::1",
        b"http://a",
        b"a\xe9",
        b"a%zz",
        b"a<b>",
    )
] + [
    refused("S13 no Host", request(BEARER, host=False)),
    refused("S13 two equal Hosts", request(BEARER, b"Host: shop.example")),
    refused("S13 two different Hosts", request(BEARER, b"Host: evil.example")),
]

IN_ORDER = [
    Case(
        name="S14 pipelined: authorized, then without a token",
        weight=5,
        send=(authorized() + request(target=LISTENER + b"?second"),),
        answers=(200, 401),
        code="missing_credentials",
        seen=(LISTENER,),
    ),
    Case(
        name="S14 pipelined: a slow answer, then a refusal, in order",
        weight=5,
        send=(authorized() + request(target=LISTENER + b"?second"),),
        answers=(200, 401),
        code="missing_credentials",
        seen=(LISTENER,),
        scripts=((0.2, answer(body=b"slow")),),
    ),
    Case(
        name="S14 pipelined: three users, each its own answer",
        weight=5,
        send=(
            authorized(target=LISTENER + b"?1")
            + request(b"access_token: {token2}", target=LISTENER + b"?2")
            + authorized(target=LISTENER + b"?3"),
        ),
        answers=(200, 200, 200),
        seen=(LISTENER + b"?1", LISTENER + b"?2", LISTENER + b"?3"),
    ),
    Case(
        name="S15 a GET whose body looks like a request",
        weight=5,
        send=(authorized(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        body=HIDDEN,
    ),
    Case(
        name="S15 a chunked GET whose body looks like a request",
        weight=5,
        send=(authorized(CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        body=HIDDEN,
    ),
    Case(
        name="S16 a refused upload of 1 MiB that holds requests",
        weight=5,
        send=(
            request(b"Content-Length: 1048576", method=b"POST"),
            (HIDDEN_AUTHORIZED * 10_000)[:1_048_576],
        ),
        answers=(401,),
        code="missing_credentials",
        closes=True,
    ),
    Case(
        name="S16 a refused upload of 1 MiB, its body after the answer",
        weight=5,
        send=(
            request(b"Content-Length: 1048576", method=b"POST"),
            Do.READ,
            (HIDDEN_AUTHORIZED * 10_000)[:1_048_576],
        ),
        answers=(401,),
        closes=True,
    ),
    Case(
        name="S16 a refused chunked upload that holds a request",
        weight=5,
        send=(
            request(CHUNKED, method=b"POST"),
            Do.READ,
            b"100000\r\n" + HIDDEN_AUTHORIZED * 100,
        ),
        answers=(401,),
        closes=True,
    ),
]


def never_upgraded(seen: Observation) -> None:
    """What reached the upstream asks for no upgrade, and nothing came after its body."""
    for exchange in seen.exchanges:
        assert exchange.values("upgrade") == []
        assert exchange.values("http2-settings") == []
        assert b"upgrade" not in b",".join(exchange.values("connection")).lower()


UPGRADES = [
    refused("S17 websocket with a Content-Length", post(*UPGRADE, b"Content-Length: 5")),
    refused("S17 websocket with a chunked body", post(*UPGRADE, CHUNKED, body=FIVE)),
    refused(
        "S17 websocket GET with a body that is a request",
        authorized(*UPGRADE, b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    ),
] + [
    case
    for name, lines in (
        ("S18 upgrade: foo", (b"Connection: Upgrade", b"Upgrade: foo")),
        ("S18 upgrade: WebSocketX", (b"Connection: Upgrade", b"Upgrade: WebSocketX")),
        ("S18 upgrade: TLS/1.0", (b"Connection: Upgrade", b"Upgrade: TLS/1.0")),
        (
            "S19 h2c",
            (
                b"Connection: Upgrade, HTTP2-Settings",
                b"Upgrade: h2c",
                b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
            ),
        ),
        ("S19 h2c not named by Connection", (b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")),
    )
    for case in (
        Case(
            name=f"{name}, without a body",
            weight=5,
            send=(authorized(*lines),),
            answers=(200,),
            seen=(LISTENER,),
            check=never_upgraded,
        ),
        Case(
            name=f"{name}, its body is a body",
            weight=5,
            send=(post(*lines, b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),),
            answers=((200, 400),),
            seen=(LISTENER,),
            body=HIDDEN,
            check=never_upgraded,
        ),
        Case(
            name=f"{name}, what follows is judged as a request",
            weight=5,
            send=(authorized(*lines) + request(target=LISTENER + b"?second"), Do.HALF_CLOSE),
            answers=(200, (401, 0)),
            seen=(LISTENER,),
            check=never_upgraded,
        ),
    )
]


def no_tunnel(seen: Observation) -> None:
    """Bytes sent after the answer never reached the upstream."""
    assert b"TUNNELLED" not in seen.upstream_bytes


def echoes(seen: Observation) -> None:
    assert seen.tail == b"hello"


def held_until_101(connection: UpstreamConnection, exchange: Exchange) -> None:
    """Fail the case (by a refusal) when bytes arrive before the 101; else switch and echo."""
    connection.sock.settimeout(0.15)
    try:
        early = connection.sock.recv(100)
    except TimeoutError:
        early = b""
    connection.sock.settimeout(None)
    connection.sock.sendall(answer(b"418 Early") if early else SWITCHED)


def wants_websocket(name: str, *script: bytes | float | Act, status: int) -> Case:
    return Case(
        name=name,
        weight=5,
        send=(authorized(*UPGRADE), Do.READ, b"TUNNELLED\r\n\r\n", 0.05, Do.HALF_CLOSE),
        answers=(status, (0, 400)),
        seen=(LISTENER,),
        scripts=(script,),
        check=no_tunnel,
    )


TUNNELS = [
    Case(
        name="S20 the upstream's own 101 makes a tunnel",
        send=(authorized(*UPGRADE), Do.READ, b"hello", 0.05, Do.HALF_CLOSE),
        answers=(101,),
        seen=(LISTENER,),
        present={"upgrade": [b"websocket"]},
        scripts=((SWITCHED, Act.ECHO),),
        check=echoes,
    ),
    wants_websocket("S20 answered with 200", answer(body=b"no"), status=200),
    wants_websocket(
        "S20 answered with 426", answer(b"426 Upgrade Required", [b"Upgrade: foo"]), status=426
    ),
    wants_websocket(
        "S20 a bare 101", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Act.HOLD, status=502
    ),
    wants_websocket(
        "S20 a 101 to another protocol",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        Act.HOLD,
        status=502,
    ),
    Case(
        name="S20 a 101 unasked",
        weight=5,
        send=(authorized(), Do.READ, b"TUNNELLED\r\n\r\n", 0.05, Do.HALF_CLOSE),
        answers=(502, (0, 400)),
        code=("upstream_broken", "bad_request"),
        seen=(LISTENER,),
        scripts=((SWITCHED, Act.HOLD),),
        check=no_tunnel,
    ),
    Case(
        name="S20 a 101 to an upgrade that was not forwarded",
        weight=5,
        send=(
            authorized(b"Connection: Upgrade", b"Upgrade: foo"),
            Do.READ,
            b"TUNNELLED\r\n\r\n",
            0.05,
            Do.HALF_CLOSE,
        ),
        answers=(502, (0, 400)),
        seen=(LISTENER,),
        scripts=(
            (
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
                Act.HOLD,
            ),
        ),
        check=no_tunnel,
    ),
    Case(
        name="S21 bytes before the 101 are held until it",
        weight=5,
        send=(authorized(*UPGRADE) + b"hello", Do.READ, 0.05, Do.HALF_CLOSE),
        answers=(101,),
        seen=(LISTENER,),
        scripts=((held_until_101, Act.ECHO),),
        check=echoes,
    ),
    Case(
        name="S21 bytes before a refusal by the upstream are dropped",
        weight=5,
        send=(authorized(*UPGRADE) + HIDDEN_AUTHORIZED + b"TUNNELLED", Do.READ, Do.HALF_CLOSE),
        answers=(403, (0, 400)),
        seen=(LISTENER,),
        scripts=((0.1, answer(b"403 Forbidden")),),
        check=no_tunnel,
    ),
    Case(
        name="S21 bytes after a refused upgrade are dropped",
        weight=5,
        send=(request(*UPGRADE) + b"TUNNELLED\r\n\r\n", Do.HALF_CLOSE),
        answers=(401, (0, 400)),
        check=no_tunnel,
    ),
]

METHODS = [
    refused(
        f"S22 {name}",
        b"%s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (line, BEARER),
        status=501,
    )
    for name, line in (
        ("CONNECT to an authority", b"CONNECT shop.example:443"),
        ("CONNECT to a path", b"CONNECT " + LISTENER),
        ("TRACE", b"TRACE " + LISTENER),
        ("TRACE of a public route", b"TRACE /status"),
        ("an unknown method", b"FOO " + LISTENER),
        ("a method in small letters", b"get " + LISTENER),
        ("a method of RTSP", b"DESCRIBE " + LISTENER),
    )
] + [
    refused(f"S22 {name}", b"%s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (line, BEARER))
    for name, line in (
        ("GET *", b"GET *"),
        ("authority-form", b"GET shop.example:80"),
        ("authority-form without a port", b"GET shop.example"),
        ("a target of another scheme", b"GET ftp://shop.example/v1/dynamic/listener/a1"),
        ("an empty query as the target", b"GET ?access_token=x"),
    )
]

EXPECTATIONS = [
    refused(
        f"S23 expect {value!r}, {name}",
        request(*lines, b"Expect: " + value, b"Content-Length: 5", method=b"POST", target=target),
        status=417,
    )
    for value in (b"x", b"100-continue, x", b"x, 100-continue", b"100-continue;a=b", b"200-ok")
    for name, target, lines in (
        *(("a good token", LISTENER, (BEARER,)), ("no token", LISTENER, ())),
        *(("a public route", b"/status", ()), ("no route", b"/nowhere", ())),
    )
] + [
    Case(
        name=f"S23 expect {value!r} passes",
        send=(post(b"Expect: " + value, b"Content-Length: 5"),),
        answers=(200,),
        seen=(LISTENER,),
        body=b"abcde",
    )
    for value in (b"100-continue", b"100-CONTINUE", b"100-continue,100-continue", b"", b",")
]

CASES: list[Case] = [
    *CONTROLS,
    *EXPECTATIONS,
    refused(
        "S1 Content-Length, then chunked", post(b"Content-Length: 5", CHUNKED, body=FIVE + HIDDEN)
    ),
    refused("S1 Content-Length: 0, then chunked", post(b"Content-Length: 0", CHUNKED, body=FIVE)),
    refused(
        "S2 chunked, then Content-Length", post(CHUNKED, b"Content-Length: 5", body=FIVE + HIDDEN)
    ),
    refused("S2 chunked, then Content-Length: 0", post(CHUNKED, b"Content-Length: 0", body=FIVE)),
    *LENGTHS,
    *CODINGS,
    *HEADS,
    *CHUNKS,
    *EARLY_CLOSES,
    *TRAILERS,
    *VERSIONS,
    *HOSTS,
    *IN_ORDER,
    *UPGRADES,
    *TUNNELS,
    *METHODS,
]
