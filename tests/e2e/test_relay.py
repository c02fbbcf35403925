"""How a request and its answer travel: methods, framing, interim answers, order, closing."""

from __future__ import annotations

import json
import threading

import pytest

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, Open, ask
from tests.upstream_recorder import Act, Exchange, Recorder, UpstreamConnection, answer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


def head(method: bytes, bearer: bytes, *lines: bytes, target: bytes = LISTENER) -> bytes:
    return b"\r\n".join(
        [b"%s %s HTTP/1.1" % (method, target), b"Host: a", bearer, *lines, b"", b""]
    )


@pytest.mark.parametrize(
    "method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND"]
)
def test_any_method_passes_as_it_is(
    method: bytes, client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    mark = recorder.mark()
    client.send(head(method, bearer, b"Content-Length: 3") + b"abc")
    answered = client.read_answer()
    assert answered is not None
    assert answered.body.endswith(b"body=3")
    assert recorder.requests_since(mark)[0].method == method


def test_head_gets_the_length_and_no_body_and_the_connection_stays(
    client: RawClient, bearer: bytes
) -> None:
    client.send(head(b"HEAD", bearer))
    answered = client.read_answer(b"HEAD")
    assert answered is not None
    assert int(answered.values("content-length")[0]) > 0
    assert ask(client, bearer).status == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", 204),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', 304),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n', 304),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        (CHUNKED + b"\r\n0\r\n\r\n", 200),
    ],
)
def test_an_answer_without_a_body_ends_with_its_head(
    raw: bytes, status: int, client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    recorder.play((raw,))
    answered = ask(client, bearer)
    assert (answered.status, answered.body) == (status, b"")
    assert ask(client, bearer).status == 200


def test_early_hints_come_before_the_answer(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    recorder.play((hint, 0.05, hint, 0.05, answer(body=b"ok")))
    answered = ask(client, bearer)
    assert [interim.status for interim in answered.interim] == [103, 103]
    assert answered.interim[0].values("link") == ["</a.css>; rel=preload"]
    assert answered.body == b"ok"


def test_early_hints_are_kept_from_an_http_1_0_client(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    recorder.play((b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 0.05, answer(body=b"ok")))
    client.send(b"GET %s HTTP/1.0\r\n%s\r\n\r\n" % (LISTENER, bearer))
    answered = client.read_answer()
    assert answered is not None
    assert answered.interim == []
    assert answered.body == b"ok"


def test_chunks_travel_both_ways_as_they_come(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    """The upstream has the first piece, and the client its echo, before the second is sent."""

    def echo(connection: UpstreamConnection, exchange: Exchange) -> None:
        connection.sock.sendall(CHUNKED + b"\r\n")
        for _ in range(3):
            size = int(connection.read_line(), 16)
            piece = connection.read_exactly(size + 2)
            connection.sock.sendall(b"%x\r\n%s" % (size, piece))
        connection.read_line()
        connection.read_line()
        exchange.is_complete = True
        connection.sock.sendall(b"0\r\n\r\n")

    recorder.play((echo,))
    client.send(head(b"POST", bearer, b"Transfer-Encoding: chunked"))
    for piece in (b"one", b"two", b"three"):
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert client.read_until(piece)
    client.send(b"0\r\n\r\n")
    assert client.read_until(b"0\r\n\r\n")


def test_an_event_reaches_the_client_before_the_next_is_written(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    received = [threading.Event() for _ in range(5)]
    late: list[int] = []

    def events(connection: UpstreamConnection, exchange: Exchange) -> None:
        connection.sock.sendall(CHUNKED + b"Content-Type: text/event-stream\r\n\r\n")
        for number, event in enumerate(received):
            text = b"data: %d\n\n" % number
            connection.sock.sendall(b"%x\r\n%s\r\n" % (len(text), text))
            if not event.wait(5):
                late.append(number)
        connection.sock.sendall(b"0\r\n\r\n")

    recorder.play((events,))
    client.send(head(b"GET", bearer, b"Accept: text/event-stream"))
    for number, event in enumerate(received):
        assert client.read_until(b"data: %d\n\n" % number)
        event.set()
    assert client.read_until(b"0\r\n\r\n")
    assert late == []


def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    recorder.play((CHUNKED + b"\r\n5\r\nabcde\r\n0\r\n\r\n",))
    client.send(b"GET %s HTTP/1.0\r\n%s\r\n\r\n" % (LISTENER, bearer))
    answered = client.read_answer()
    assert answered is not None
    assert answered.ends_with_connection
    assert answered.body == b"abcde"


def test_an_http_1_0_client_that_asks_is_kept(client: RawClient, bearer: bytes) -> None:
    request = b"GET %s HTTP/1.0\r\nConnection: keep-alive\r\n%s\r\n\r\n" % (LISTENER, bearer)
    for _ in range(2):
        client.send(request)
        answered = client.read_answer()
        assert answered is not None
        assert answered.status == 200
        assert "keep-alive" in ",".join(answered.values("connection")).lower()


def test_expect_with_a_bad_token_gets_the_denial_and_sends_no_body(
    client: RawClient, recorder: Recorder
) -> None:
    mark = recorder.mark()
    bad = b"Authorization: Bearer nobody_has_this_token"
    client.send(head(b"POST", bad, b"Content-Length: 100000000", b"Expect: 100-continue"))
    answered = client.read_answer()
    assert answered is not None
    assert answered.status == 401
    assert answered.interim == []
    assert recorder.requests_since(mark) == []
    assert client.is_closed(), "a body that may still come can't be told from a request"


def test_expect_with_a_good_token_gets_its_100_then_the_answer(
    client: RawClient, bearer: bytes
) -> None:
    client.send(head(b"POST", bearer, b"Content-Length: 5", b"Expect: 100-continue"))
    assert client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(b"abcde")
    assert client.read_until(b"body=5")


def test_expect_refused_by_the_upstream_sends_no_body(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    recorder.play((answer(b"413 Too Much"), Act.HOLD))
    client.send(head(b"POST", bearer, b"Content-Length: 100000000", b"Expect: 100-continue"))
    answered = client.read_answer()
    assert answered is not None
    assert answered.status == 413
    assert client.is_closed()


def test_a_client_that_has_closed_its_side_gets_its_answer(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    recorder.play((0.2, answer(body=b"late")))
    client.send(head(b"GET", bearer))
    client.half_close()
    answered = client.read_answer()
    assert answered is not None
    assert answered.body == b"late"
    assert client.is_closed()


def test_a_client_that_vanishes_frees_the_upstream(
    open_client: Open, recorder: Recorder, bearer: bytes
) -> None:
    mark = recorder.mark()
    recorder.play((CHUNKED + b"\r\n5\r\nabcde\r\n", Act.HOLD))
    client = open_client()
    client.send(head(b"GET", bearer))
    assert client.read_until(b"abcde")
    client.reset()
    assert recorder.requests_since(mark)[0].ended.wait(5)


def test_pipelined_requests_are_answered_in_order(client: RawClient, bearer: bytes) -> None:
    targets = [LISTENER + b"?n=%d" % number for number in range(50)]
    client.send(b"".join(head(b"GET", bearer, target=target) for target in targets))
    answers = [client.read_answer() for _ in targets]
    bodies = [answered.body for answered in answers if answered]
    assert bodies == [b"account=acme target=%s body=0" % target for target in targets]


def test_connections_upstream_are_kept_and_used_again(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    mark = recorder.mark()
    for _ in range(20):
        assert ask(client, bearer).status == 200
    assert len({exchange.connection for exchange in recorder.requests_since(mark)}) == 1


def test_an_upstream_that_restarts_is_found_again(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    assert ask(client, bearer).status == 200
    recorder.drop_connections()
    assert ask(client, bearer).status == 200


def test_a_refusal_names_the_request_and_keeps_the_connection(client: RawClient) -> None:
    answered = ask(client, b"X-Request-Id: order-4712")
    assert answered.status == 401
    assert json.loads(answered.body)["request_id"] == "order-4712"
    assert ask(client).status == 401
