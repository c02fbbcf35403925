"""The data path over real sockets: what a caller sends, what the upstream sees, what comes back."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from sidecar.core.tokens import digest
from tests.in_process import (
    OK,
    TOKEN,
    Peer,
    Proxy,
    Script,
    answering,
    on_uvloop,
    request,
    running_proxy,
)

MIB = 1024 * 1024
CLOSE = b"connection: close"


def raw(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def responding(
    head: bytes, *pieces: bytes, then_closes: bool = False, reads: bytes = b"\r\n\r\n"
) -> Script:
    """Return a script: wait for ``reads``, send the head and the pieces, each in a write."""

    async def play(peer: Peer) -> None:
        await peer.until(reads)
        for piece in (head, *pieces):
            await peer.send(piece)
            await asyncio.sleep(0.01)
        if not then_closes:
            await peer.rest()

    return play


async def fetch(proxy: Proxy, data: bytes | None = None) -> tuple[bytes, bytes]:
    """Return the answer to one request of a new caller."""
    caller = await proxy.caller()
    await caller.send(data or request())
    return await caller.response()


def code_of(body: bytes) -> str:
    return body.partition(b'"code": "')[2].partition(b'"')[0].decode()


# What goes through.


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("token", ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"])
@pytest.mark.parametrize("target", ["/x", "/x?token={}"], ids=["header", "query"])
@on_uvloop
async def test_a_trace_that_repeats_the_token_of_its_request_is_begun_anew(
    token: str, target: str
) -> None:
    async with running_proxy() as proxy:
        known = await proxy.store.look_up(digest(TOKEN))
        assert known is not None
        await proxy.store.create(known.replace(id="token000002", name="old", digest=digest(token)))
        line = "X-Other: 1" if "?" in target else f"access_token: {token}"
        caller = await proxy.caller()
        await caller.send(
            raw(
                f"GET {target.format(token)} HTTP/1.1",
                "Host: a",
                line,
                f"traceparent: {TRACEPARENT}",
            )
        )
        head, _ = await caller.response()
        assert head.startswith(b"HTTP/1.1 200")
        assert token.encode() not in proxy.upstream.received[0]
        assert token not in proxy.entries[0].traceparent


@on_uvloop
async def test_a_request_goes_on_byte_for_byte_with_one_identity() -> None:
    async with running_proxy() as proxy:
        caller = await proxy.caller()
        await caller.send(
            raw(
                "GET /a%2Db//c;d=1?x=%20+&y&x=%2f HTTP/1.1",
                "hOsT: service",
                "X-Second: 2",
                "X-First: 1",
                "x-second: 3",
                f"access_token: {TOKEN}",
                "X_Account: admin",
                "x-account: admin",
                "Connection: X-Account, X-First",
                "X-Request-Id: mine",
                f"Traceparent: {TRACEPARENT}",
            )
        )
        head, body = await caller.response()
        assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"ok")
        assert proxy.upstream.received[0].split(b"\r\n") == [
            b"GET /a%2Db//c;d=1?x=%20+&y&x=%2f HTTP/1.1",
            b"hOsT: service",
            b"X-Second: 2",
            b"x-second: 3",
            b"X-Request-Id: mine",
            f"Traceparent: {TRACEPARENT}".encode(),
            b"X-Forwarded-For: 127.0.0.1",
            b"X-Forwarded-Proto: http",
            b"X-Forwarded-Host: service",
            b"Via: 1.1 sidecar",
            b"X-Account: acme",
            b"",
            b"",
        ]


@on_uvloop
async def test_a_token_in_the_query_goes_no_further_and_makes_the_answer_private() -> None:
    async with running_proxy() as proxy:
        data = raw(f"GET /x?a=1&access_token={TOKEN}&b=2 HTTP/1.1", "Host: service")
        head, _ = await fetch(proxy, data)
        assert b"\r\nCache-Control: private\r\n" in head
        assert proxy.upstream.received[0].startswith(b"GET /x?a=1&b=2 HTTP/1.1\r\n")
        assert TOKEN.encode() not in proxy.upstream.received[0]


@on_uvloop
async def test_pipelined_requests_are_answered_in_order_each_by_its_own_verdict() -> None:
    async with running_proxy() as proxy:
        caller = await proxy.caller()
        await caller.send(request() + raw("GET /x HTTP/1.1", "Host: service") + request())
        heads = [(await caller.response())[0].split(b"\r\n")[0] for _ in range(3)]
        assert heads == [b"HTTP/1.1 200 OK", b"HTTP/1.1 401 Unauthorized", b"HTTP/1.1 200 OK"]
        assert proxy.upstream.received[0].count(b"GET ") == 2


@on_uvloop
async def test_two_hundred_requests_in_one_segment_get_two_hundred_answers() -> None:
    async with running_proxy() as proxy:
        caller = await proxy.caller()
        await caller.send(request() * 199 + request("GET", "/x", "Connection: close"))
        answers = await caller.rest()
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 200
        assert answers.endswith(b"\r\n\r\nok")
        assert len(proxy.upstream.peers) == 1


@on_uvloop
async def test_a_request_behind_an_upload_waits_for_its_turn() -> None:
    last = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with running_proxy(
        responding(last, reads=b"abcdef"), responding(OK, reads=b"/second")
    ) as proxy:
        caller = await proxy.caller()
        await caller.send(request("POST", "/first", "Content-Length: 6") + b"abc")
        await asyncio.sleep(0.05)
        await caller.send(b"def" + request("GET", "/second"))
        assert (await caller.response())[1] == b"ok"
        assert (await caller.response())[1] == b"ok"
        assert b"/second" not in proxy.upstream.received[0]


# Bodies of answers.

FRAMINGS: dict[str, tuple[bytes, bytes, bytes]] = {
    "chunked and empty, in one piece": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked",
        b"",
    ),
    "chunked in one piece": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n",
        b"transfer-encoding: chunked",
        b"hi",
    ),
    "a length of zero": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"content-length: 0",
        b"",
    ),
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"content-length: 2", b"hi"),
}


@pytest.mark.parametrize("name", FRAMINGS)
@on_uvloop
async def test_an_answer_keeps_its_framing_and_the_connection_serves_another(name: str) -> None:
    answer, framing, body = FRAMINGS[name]
    async with running_proxy(answering(answer)) as proxy:
        caller = await proxy.caller()
        for _ in range(3):
            await caller.send(request())
            head, received = await caller.response()
            assert framing in head.lower()
            assert received == body
            assert CLOSE not in head.lower()
        assert len(proxy.upstream.peers) == 1


@pytest.mark.parametrize("body", [b"", b"until the end"])
@on_uvloop
async def test_a_body_until_the_close_is_sent_in_chunks_and_the_caller_stays(body: bytes) -> None:
    script = responding(b"HTTP/1.1 200 OK\r\n\r\n" + body, then_closes=True)
    async with running_proxy(script) as proxy:
        caller = await proxy.caller()
        for _ in range(2):
            await caller.send(request())
            head, received = await caller.response()
            assert b"transfer-encoding: chunked" in head.lower()
            assert received == body


@on_uvloop
async def test_a_caller_of_http_1_0_gets_the_body_bare_and_the_close_as_its_end() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    async with running_proxy(answering(answer)) as proxy:
        caller = await proxy.caller()
        await caller.send(
            raw("GET /x HTTP/1.0", f"access_token: {TOKEN}", "Connection: keep-alive")
        )
        head, _, body = (await caller.rest()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert CLOSE in head.lower()
        assert body == b"hi"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
@on_uvloop
async def test_an_answer_without_a_body_ends_with_its_head(method: str, answer: bytes) -> None:
    async with running_proxy(answering(answer)) as proxy:
        caller = await proxy.caller()
        for _ in range(2):
            await caller.send(request(method))
            head, _ = await caller.response(has_body=False)
            assert head.split(b"\r\n")[0] == answer.split(b"\r\n")[0]
        await caller.send(raw("GET /x HTTP/1.1", "Host: service"))
        assert (await caller.response())[0].startswith(b"HTTP/1.1 401 ")


@on_uvloop
async def test_an_event_reaches_the_caller_before_the_next_is_sent() -> None:
    heard = asyncio.Event()

    async def stream(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            await peer.send(b"9\r\ndata: x\n\n\r\n")
            await heard.wait()
            heard.clear()
        await peer.send(b"0\r\n\r\n")
        await peer.rest()

    async with running_proxy(stream) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        for _ in range(3):
            await caller.until(b"data: x\n\n\r\n")
            heard.set()
        assert await caller.until(b"0\r\n\r\n") == b"0\r\n\r\n"


@on_uvloop
async def test_hints_come_before_the_answer() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with running_proxy(responding(hints, OK)) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        assert await caller.until(b"\r\n\r\n") == hints
        assert (await caller.response())[1] == b"ok"


# Upstreams that misbehave.


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 199 X\r\nContent-Length: 1\r\n\r\na" + OK,
        b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"ICE/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"not HTTP\r\n\r\n",
    ],
)
@on_uvloop
async def test_an_answer_that_is_none_is_502_and_its_connection_is_closed(answer: bytes) -> None:
    async with running_proxy(responding(answer), answering(OK)) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        head, body = await caller.response()
        assert (head.split(b" ")[1], code_of(body)) == (b"502", "upstream_broken")
        await caller.send(request())
        assert (await caller.response())[1] == b"ok"
        assert len(proxy.upstream.peers) == 2


@pytest.mark.parametrize("status", [100, 103, 104, 199])
@on_uvloop
async def test_a_service_does_not_make_up_the_answer_to_the_next_request(status: int) -> None:
    # The final answer's body has two bytes; the interim one's would come before them, and what is
    # behind its first two be read by the caller as the answer to its second request.
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    interim = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\nok" % (status, 2 + len(forged))
    async with running_proxy(responding(interim + forged + OK), answering(OK)) as proxy:
        caller = await proxy.caller()
        await caller.send(request() + request())
        head, body = await caller.response()
        assert (head.split(b" ")[1], code_of(body)) == (b"502", "upstream_broken")
        assert (await caller.response())[1] == b"ok"
        assert b"forged" not in caller.received


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    ],
)
@on_uvloop
async def test_a_truncated_answer_never_looks_complete(answer: bytes) -> None:
    async with running_proxy(responding(answer, then_closes=True)) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        received = await caller.rest()
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert not received.endswith(b"0\r\n\r\n")
        assert proxy.entries[0].code == "upstream_broken"


@on_uvloop
async def test_bytes_behind_an_answer_reach_nobody() -> None:
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    async with running_proxy(answering(OK + poison), answering(OK)) as proxy:
        caller = await proxy.caller()
        for _ in range(3):
            await caller.send(request())
            assert (await caller.response())[1] == b"ok"
        await caller.close()
        assert b"poison" not in caller.received


@on_uvloop
async def test_a_kept_connection_that_had_gone_is_tried_once_more_for_get() -> None:
    async with running_proxy(responding(OK, then_closes=True), answering(OK)) as proxy:
        assert (await fetch(proxy))[1] == b"ok"
        assert (await fetch(proxy))[1] == b"ok"


async def gone_at_the_second(peer: Peer) -> None:
    await peer.until(b"\r\n\r\n")
    await peer.send(OK)
    await peer.until(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status", "connections"),
    [
        (request("GET"), b"200", 2),
        (request("DELETE"), b"200", 2),
        (request("POST", "/x", "Content-Length: 0"), b"502", 1),
        (request("PUT", "/x", "Content-Length: 1") + b"a", b"502", 1),
    ],
)
@on_uvloop
async def test_only_what_is_safe_is_sent_twice(
    sent: bytes, status: bytes, connections: int
) -> None:
    async with running_proxy(gone_at_the_second, answering(OK)) as proxy:
        assert (await fetch(proxy))[1] == b"ok"
        head, _ = await fetch(proxy, sent)
        assert head.split(b" ")[1] == status
        assert len(proxy.upstream.peers) == connections
        assert (proxy.pool.opened, proxy.pool.retries) == (connections, connections - 1)


@on_uvloop
async def test_a_new_connection_that_ends_without_an_answer_is_not_tried_again() -> None:
    async def hang_up(peer: Peer) -> None:
        return

    async with running_proxy(hang_up) as proxy:
        head, body = await fetch(proxy)
        assert (head.split(b" ")[1], code_of(body)) == (b"502", "upstream_unreachable")
        assert len(proxy.upstream.peers) == 1


@on_uvloop
async def test_nobody_listening_is_502_at_once() -> None:
    async with running_proxy() as proxy:
        await proxy.upstream.stop()
        head, body = await fetch(proxy)
        assert (head.split(b" ")[1], code_of(body)) == (b"502", "upstream_unreachable")


@on_uvloop
async def test_an_upstream_that_says_nothing_is_504() -> None:
    async def silent(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(silent, response_timeout="100ms") as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        head, body = await caller.response()
        assert (head.split(b" ")[1], code_of(body)) == (b"504", "upstream_timeout")
        await proxy.settle(lambda: "open=0" in repr(proxy.pool))


@on_uvloop
async def test_when_all_connections_are_in_use_a_request_waits_then_is_told() -> None:
    async def silent(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(silent, max_connections=1, connect_timeout="100ms") as proxy:
        first = await proxy.caller()
        await first.send(request())
        await proxy.settle(lambda: len(proxy.upstream.peers) == 1)
        head, body = await fetch(proxy)
        assert (head.split(b" ")[1], code_of(body)) == (b"503", "overloaded")
        assert b"\r\nRetry-After: " in head


@on_uvloop
async def test_one_connection_serves_many_callers_in_turn() -> None:
    async with running_proxy(max_connections=1) as proxy:
        answers = await asyncio.gather(*[fetch(proxy) for _ in range(40)])
        assert [body for _, body in answers] == [b"ok"] * 40
        assert len(proxy.upstream.peers) == 1


# Uploads.


@on_uvloop
async def test_a_refused_upload_gets_its_denial_and_no_100() -> None:
    async with running_proxy() as proxy:
        caller = await proxy.caller()
        await caller.send(
            request("POST", "/x", "Content-Length: 9", "Expect: 100-continue", token="x" * 20)
        )
        head, body = await caller.response()
        assert (head.split(b" ")[1], code_of(body)) == (b"401", "invalid_token")
        assert await caller.rest() == b""
        assert proxy.upstream.peers == []


@on_uvloop
async def test_the_body_of_a_refused_request_is_never_taken_for_another() -> None:
    body = request() + b"x" * MIB
    async with running_proxy() as proxy:
        caller = await proxy.caller()
        length = f"Content-Length: {len(body)}"
        sending = asyncio.create_task(
            caller.send(request("POST", "/x", length, token="x" * 20) + body)
        )
        head, answer = await caller.response()
        assert (head.split(b" ")[1], code_of(answer)) == (b"401", "invalid_token")
        assert CLOSE in head.lower()
        await sending
        assert await caller.rest() == b""
        assert proxy.upstream.peers == []
        assert len(proxy.entries) == 1


@on_uvloop
async def test_a_100_lets_the_body_come() -> None:
    async def ask(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.until(b"abc")
        await peer.send(OK)
        await peer.rest()

    async with running_proxy(ask) as proxy:
        caller = await proxy.caller()
        await caller.send(request("POST", "/x", "Content-Length: 3", "Expect: 100-continue"))
        assert await caller.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await caller.send(b"abc")
        assert (await caller.response())[1] == b"ok"
        assert b"\r\nExpect: 100-continue\r\n" in proxy.upstream.received[0]


@on_uvloop
async def test_an_answer_instead_of_a_100_closes_the_connection_and_says_so() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    async with running_proxy(responding(refusal), answering(OK)) as proxy:
        caller = await proxy.caller()
        await caller.send(request("POST", "/x", "Content-Length: 3", "Expect: 100-continue"))
        head, body = await caller.response()
        assert (head.split(b" ")[1], body) == (b"413", b"no")
        assert CLOSE in head.lower()
        assert await caller.rest() == b""


@on_uvloop
async def test_an_answer_before_the_end_of_an_upload_ends_both_connections() -> None:
    early = responding(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", reads=b"abc")
    async with running_proxy(early, answering(OK)) as proxy:
        caller = await proxy.caller()
        await caller.send(request("POST", "/x", "Content-Length: 1000") + b"abc")
        assert (await caller.response())[1] == b"no"
        await caller.send(request("GET", "/smuggled"))
        assert await caller.rest() == b""
        assert (await fetch(proxy))[1] == b"ok"
        assert b"smuggled" not in b"".join(proxy.upstream.received)
        assert len(proxy.upstream.peers) == 2


@on_uvloop
async def test_a_body_that_turns_out_malformed_is_400_and_never_completed() -> None:
    async def listen(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(listen) as proxy:
        caller = await proxy.caller()
        await caller.send(request("POST", "/x", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        await proxy.settle(lambda: b"abc" in b"".join(proxy.upstream.received))
        await caller.send(b"zz\r\n")
        head, body = await caller.response()
        assert (head.split(b" ")[1], code_of(body)) == (b"400", "bad_request")
        await proxy.settle(lambda: "open=0" in repr(proxy.pool))
        assert not proxy.upstream.received[0].endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("framing", ["Content-Length: 8388608", "Transfer-Encoding: chunked"])
@on_uvloop
async def test_a_large_body_goes_both_ways_whole(framing: str) -> None:
    size = 8 * MIB

    async def echo(peer: Peer) -> None:
        head = await peer.until(b"\r\n\r\n")
        body = await (peer._chunks() if b"chunked" in head else peer.exactly(size))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await peer.rest()

    payload = bytes(range(256)) * (size // 256)
    async with running_proxy(echo) as proxy:
        caller = await proxy.caller()
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (size, payload) if "chunked" in framing else payload
        sending = asyncio.create_task(caller.send(request("POST", "/x", framing) + framed))
        assert (await caller.response())[1] == payload
        await sending


# Back-pressure.


@on_uvloop
async def test_a_caller_that_does_not_read_stops_the_upstream() -> None:
    sent = 0

    async def pour(peer: Peer) -> None:
        nonlocal sent
        await peer.until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (512 * MIB))
        while True:
            await peer.send(b"x" * MIB)
            sent += 1

    async with running_proxy(pour) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        await caller.until(b"\r\n\r\n")
        before = -1
        while sent > before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 64, "what fits the kernel's buffers and no more"
        client = next(iter(proxy.server._connections))
        assert client.transport is not None
        assert client.transport.get_write_buffer_size() < MIB


@on_uvloop
async def test_an_upstream_that_does_not_read_stops_the_caller() -> None:
    async def deaf(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await asyncio.sleep(60)

    async with running_proxy(deaf) as proxy:
        caller = await proxy.caller()
        await caller.send(request("POST", "/x", f"Content-Length: {512 * MIB}"))
        sending = asyncio.create_task(caller.send(b"x" * (64 * MIB)))
        await asyncio.sleep(1)
        assert not sending.done()
        sending.cancel()
        upstream = next(iter(proxy.pool._open))
        assert upstream.transport is not None
        assert upstream.transport.get_write_buffer_size() < MIB


@on_uvloop
async def test_a_connection_that_a_slow_caller_had_stopped_serves_the_next_one() -> None:
    size = 12 * MIB
    big = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with running_proxy(answering(big)) as proxy:
        for _ in range(3):
            slow = await proxy.caller()
            await slow.send(request())
            await asyncio.sleep(0.2)
            assert len((await slow.response())[1]) == size
        assert len(proxy.upstream.peers) == 1


@on_uvloop
async def test_a_slow_reader_gets_the_whole_of_a_last_answer() -> None:
    size = 12 * MIB
    big = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with running_proxy(answering(big)) as proxy:
        caller = await proxy.caller()
        await caller.send(request("GET", "/x", "Connection: close"))
        head = await caller.until(b"\r\n\r\n")
        await asyncio.sleep(3.5)
        assert CLOSE in head.lower()
        assert len(await caller.rest()) == size


# Tunnels.

HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@on_uvloop
async def test_after_the_upstreams_101_bytes_are_bytes() -> None:
    async def echo(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        assert peer._unread == b"", "nothing comes before the 101"
        await asyncio.sleep(0.05)
        await peer.send(SWITCH + b"hello")
        while data := await peer.read():
            await peer.send(data)
        await peer.send(b"bye")

    async with running_proxy(echo) as proxy:
        caller = await proxy.caller()
        await caller.send(request("GET", "/ws", *HANDSHAKE) + b"early")
        head = await caller.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nUpgrade: websocket\r\n" in head
        assert await caller.exactly(10) == b"helloearly"
        await caller.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await caller.exactly(18) == b"GET / HTTP/1.1\r\n\r\n"
        caller.end()
        assert await caller.rest() == b"bye"
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        assert [entry.status for entry in proxy.entries] == [101]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (OK, b"200"),
        (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", b"426"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"502"),
        (SWITCH.replace(b"websocket", b"h2c"), b"502"),
    ],
)
@on_uvloop
async def test_without_a_rightful_101_there_is_no_tunnel(answer: bytes, status: bytes) -> None:
    async with running_proxy(responding(answer)) as proxy:
        caller = await proxy.caller()
        await caller.send(request("GET", "/ws", *HANDSHAKE) + request("GET", "/smuggled"))
        head, _ = await caller.response()
        assert head.split(b" ")[1] == status
        assert CLOSE in head.lower()
        await caller.rest()
        assert b"smuggled" not in b"".join(proxy.upstream.received)


@on_uvloop
async def test_another_upgrade_is_never_forwarded() -> None:
    async with running_proxy() as proxy:
        sent = request("GET", "/x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
        assert (await fetch(proxy, sent))[1] == b"ok"
        assert b"pgrade" not in proxy.upstream.received[0]


# Callers that leave, half-close or dawdle.


@on_uvloop
async def test_a_caller_that_half_closes_still_gets_its_answer() -> None:
    async with running_proxy(responding(OK)) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        caller.end()
        assert (await caller.response())[1] == b"ok"
        assert await caller.rest() == b""
        await proxy.settle(lambda: proxy.server.open_connections == 0)


@pytest.mark.parametrize("body", ["Content-Length: 9", "Transfer-Encoding: chunked"])
@on_uvloop
async def test_a_body_that_ended_before_its_turn_is_not_waited_for(body: str) -> None:
    """Who pipelines and half-closes may have cut a request that nobody has looked at yet."""
    goes_on = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await goes_on.wait()
        await peer.send(OK)
        await peer.rest()

    async with running_proxy(slow) as proxy:
        caller = await proxy.caller()
        await caller.send(request() + request("POST", "/x", body) + b"3\r\nab")
        caller.end()
        await proxy.settle(lambda: len(proxy.upstream.peers) == 1)
        await asyncio.sleep(0.05)
        goes_on.set()
        assert (await caller.response())[1] == b"ok"
        head, refusal = await caller.response()
        assert (head[9:12], code_of(refusal)) == (b"400", "bad_request")
        await proxy.settle(lambda: proxy.server.open_connections == 0)


async def reset(caller: Peer) -> None:
    """Leave as a process that is killed does."""
    sock = caller.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    caller.reset()


@on_uvloop
async def test_a_caller_that_leaves_ends_its_exchange() -> None:
    async def silent(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(silent) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        await proxy.settle(lambda: len(proxy.upstream.peers) == 1)
        await reset(caller)
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        await proxy.settle(lambda: "open=0" in repr(proxy.pool))
        assert [entry.status for entry in proxy.entries] == [499]


@on_uvloop
async def test_callers_that_leave_at_any_moment_leak_nothing() -> None:
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    chunk = request("POST", "/x", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n"
    starts = [b"", b"GET /", request(), request() * 3, chunk, request("GET", "/ws", *HANDSHAKE)]
    async with running_proxy(answering(big), max_connections=8) as proxy:

        async def come_and_go(number: int) -> None:
            caller = await proxy.caller()
            await caller.send(starts[number % len(starts)])
            await asyncio.sleep((number % 7) * 0.002)
            if number % 2:
                await reset(caller)
            else:
                await caller.close()

        for _ in range(5):
            await asyncio.gather(*[come_and_go(number) for number in range(60)])
        for caller in proxy.peers:
            await caller.close()
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        await proxy.settle(lambda: len(proxy.pool._idle) == len(proxy.pool._open))
        assert not proxy.pool._opening
        assert len(proxy.server.deadlines) == 0
        assert len((await fetch(proxy))[1]) == 100_000


LIMITS: list[tuple[str, dict[str, Any], bytes, str]] = [
    ("a slow head", {"header_timeout": "100ms"}, b"GET / HTTP", "request_timeout"),
    (
        "a slow body",
        {"body_timeout": "100ms"},
        request("POST", "/x", "Content-Length: 9"),
        "request_timeout",
    ),
    (
        "a body too large",
        {"body_bytes": "1KiB"},
        request("POST", "/x", "Content-Length: 1025"),
        "body_too_large",
    ),
    (
        "chunks too large",
        {"body_bytes": "1KiB"},
        request("POST", "/x", "Transfer-Encoding: chunked") + b"401\r\n" + b"x" * 1025 + b"\r\n",
        "body_too_large",
    ),
    ("a long target", {"url_bytes": "1KiB"}, request("GET", "/" + "x" * 1100), "uri_too_long"),
    ("large headers", {}, request("GET", "/x", "X: " + "x" * 33_000), "headers_too_large"),
    ("many headers", {}, request("GET", "/x", *["X: x"] * 200), "headers_too_large"),
]


@pytest.mark.parametrize(("name", "limits", "sent", "code"), LIMITS)
@on_uvloop
async def test_a_limit_has_its_answer_and_the_connection_closes(
    name: str, limits: dict[str, Any], sent: bytes, code: str
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(silent, limits=limits) as proxy:
        caller = await proxy.caller()
        await caller.send(sent)
        head, body = await caller.response()
        assert code_of(body) == code
        assert CLOSE in head.lower()
        assert await caller.rest() == b""


@on_uvloop
async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with running_proxy(limits={"idle_timeout": "100ms"}) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        await caller.response()
        assert await caller.rest() == b""


@on_uvloop
async def test_a_connection_that_never_says_a_word_is_closed_too() -> None:
    async with running_proxy(limits={"header_timeout": "100ms"}) as proxy:
        caller = await proxy.caller()
        assert await caller.rest() == b""
        assert proxy.entries == []


@on_uvloop
async def test_a_connection_too_many_is_told_so() -> None:
    async with running_proxy(limits={"connections": 1}) as proxy:
        first = await proxy.caller()
        await first.send(request())
        await first.response()
        second = await proxy.caller()
        assert (await second.rest()).startswith(b"HTTP/1.1 503 ")
        await first.send(request())
        assert (await first.response())[1] == b"ok"
        await first.close()
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        assert (await fetch(proxy))[1] == b"ok"


# Draining.


@on_uvloop
async def test_a_drain_closes_what_is_idle_and_lets_what_runs_finish() -> None:
    released = asyncio.Event()

    async def hold(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await released.wait()
        await peer.send(OK)
        await peer.rest()

    async with running_proxy(hold) as proxy:
        idle, busy = await proxy.caller(), await proxy.caller()
        await busy.send(request())
        await proxy.settle(lambda: len(proxy.upstream.peers) == 1)
        draining = asyncio.create_task(proxy.drain(20.0))
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        released.set()
        head, body = await busy.response()
        assert (CLOSE in head.lower(), body) == (True, b"ok")
        await busy.close()
        await draining
        assert proxy.server.open_connections == 0


@on_uvloop
async def test_a_drain_cuts_what_is_left_when_its_time_is_up_and_notes_it() -> None:
    async def silent(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(silent) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        await proxy.settle(lambda: len(proxy.upstream.peers) == 1)
        await proxy.drain(0.05)
        assert proxy.server.open_connections == 0
        assert [entry.status for entry in proxy.entries] == [499]
        assert await caller.rest() == b""
