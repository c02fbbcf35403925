"""The oracle's own instruments: what they can't tell apart, no case can judge."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.conformance.oracle import shows
from tests.conformance.raw_client import MalformedAnswerError, RawClient
from tests.upstream_recorder import Act, Recorder, answer


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def client(recorder: Recorder) -> Iterator[RawClient]:
    client = RawClient(socket.create_connection(("127.0.0.1", recorder.port)))
    yield client
    client.close()


def test_the_recorder_answers_in_order_and_keeps_every_byte(
    recorder: Recorder, client: RawClient
) -> None:
    sent = (
        b"POST /a HTTP/1.1\r\nX-Account: acme\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;x\r\nabcde\r\n0\r\nX-Late: 1\r\n\r\n"
        b"GET /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    )
    client.send(sent)
    first, second = client.read_answer(), client.read_answer()
    assert first is not None
    assert first.body == b"account=acme target=/a body=5"
    assert second is not None
    assert second.body == b"account= target=/b body=3"
    assert b"".join(piece for _, piece in recorder.pieces) == sent
    assert recorder.exchanges[0].trailers == b"X-Late: 1\r\n"
    assert recorder.exchanges[1].body == b"abc"


def test_a_script_is_played_once_and_for_the_next_request_only(
    recorder: Recorder, client: RawClient
) -> None:
    recorder.play((answer(b"418 Teapot"),))
    client.send(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
    answers = [client.read_answer(), client.read_answer()]
    assert [each and each.status for each in answers] == [418, 200]


def test_a_body_broken_off_leaves_the_request_incomplete(
    recorder: Recorder, client: RawClient
) -> None:
    client.send(b"POST /a HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    client.half_close()
    assert client.is_closed()
    assert recorder.exchanges[0].ended.wait(2)
    assert not recorder.exchanges[0].is_complete
    assert recorder.exchanges[0].body == b"abc"


def test_the_client_sees_a_truncated_body_and_the_close(
    recorder: Recorder, client: RawClient
) -> None:
    recorder.play((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Act.CLOSE))
    client.send(b"GET /a HTTP/1.1\r\n\r\n")
    answered = client.read_answer()
    assert answered is not None
    assert not answered.is_complete
    assert client.is_closed()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nabcde\r\n0\r\n\r\n",
    ],
)
def test_the_client_takes_nothing_malformed(
    raw: bytes, recorder: Recorder, client: RawClient
) -> None:
    recorder.play((raw, Act.CLOSE))
    client.send(b"GET /a HTTP/1.1\r\n\r\n")
    with pytest.raises(MalformedAnswerError):
        client.read_answer()


@pytest.mark.parametrize(
    "text",
    [
        b"?token=sct_0123456789abcdefghijKLMN",
        b"a part: 123456789abcdefg!",
        b"%73%63%74%5f%30%31%32%33%34%35%36%37%38%39%61%62%63%64%65%66%67%68",
        b"YWNtZTpzY3RfMDEyMzQ1Njc4OWFiY2RlZmdoaWpLTE1O",
        b"eDpzY3RfMDEyMzQ1Njc4OWFiY2RlZmdoaWpLTE1O",
    ],
)
def test_a_secret_is_found_plain_in_part_percent_encoded_and_in_base64(text: bytes) -> None:
    assert shows(text, b"sct_0123456789abcdefghijKLMN")
    assert not shows(b"sct_ is no secret", b"sct_0123456789abcdefghijKLMN")
