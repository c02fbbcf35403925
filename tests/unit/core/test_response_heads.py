"""Response heads: the upstream's own words, less what is hop by hop, framed anew."""

from __future__ import annotations

import pytest

from sidecar.core.headers import CLOSE, KEEP_ALIVE, WEBSOCKET
from sidecar.core.response_heads import build_response_head


def build(
    *lines: str,
    connection: bytes = b"",
    is_chunked: bool = False,
    is_private: bool = False,
    extra: bytes = b"",
) -> list[str]:
    """Return the lines that stand after the status line."""
    head = build_response_head(
        200,
        b"OK",
        [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, _, value in (line.partition(": ") for line in lines)
        ],
        connection=connection,
        is_chunked=is_chunked,
        is_private=is_private,
        extra=extra,
    ).decode("latin-1")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert head.endswith("\r\n\r\n")
    return head[:-4].split("\r\n")[1:]


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (200, b"OK", b"HTTP/1.1 200 OK\r\n\r\n"),
        (299, b"", b"HTTP/1.1 299 \r\n\r\n"),
        (404, b"Nicht da \xfc", b"HTTP/1.1 404 Nicht da \xfc\r\n\r\n"),
    ],
)
def test_status_and_reason_are_the_upstreams(status: int, reason: bytes, line: bytes) -> None:
    assert build_response_head(status, reason, []) == line


def test_what_stays_keeps_order_case_duplicates_and_bytes() -> None:
    lines = ["sErver: x", "Set-Cookie: a=1", "X: ", "set-cookie: b=2", "X-Ö: \xff", "Via: 1.1 up"]
    assert build(*lines) == lines
    assert build("X-Account: echoed", "X-Request-Id: 1") == ["X-Account: echoed", "X-Request-Id: 1"]


@pytest.mark.parametrize(
    "line",
    [
        *["Connection: close", "Keep-Alive: timeout=5", "Proxy-Connection: close", "TE: x"],
        *["Upgrade: h2c", "Trailer: X", "Proxy-Authenticate: Basic", "transfer-encoding: chunked"],
    ],
)
def test_what_is_hop_by_hop_is_stripped(line: str) -> None:
    assert build("A: 1", line, "B: 2") == ["A: 1", "B: 2"]


def test_what_connection_names_is_stripped_and_a_length_stays() -> None:
    assert build(
        "Connection: X-Secret, Content-Length",
        "X-Secret: 1",
        "x_secret: 2",
        "Content-Length: 3",
        "A: 1",
        "connection: b",
        "B: 2",
    ) == ["Content-Length: 3", "A: 1"]


def test_chunked_is_declared_in_the_place_of_the_upstreams() -> None:
    assert build("A: 1", "transfer-encoding: Chunked", "B: 2", is_chunked=True) == [
        "A: 1",
        "transfer-encoding: chunked",
        "B: 2",
    ]


def test_chunked_is_declared_once_and_without_a_length() -> None:
    assert build("Content-Length: 3", "A: 1", is_chunked=True) == [
        "A: 1",
        "Transfer-Encoding: chunked",
    ]
    twice = ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]
    assert build(*twice, is_chunked=True) == twice[:1]


@pytest.mark.parametrize(
    ("connection", "lines"),
    [
        (CLOSE, ["Connection: close"]),
        (KEEP_ALIVE, ["Connection: keep-alive"]),
        (WEBSOCKET, ["Connection: Upgrade", "Upgrade: websocket"]),
    ],
)
def test_our_own_connection_line_comes_after_the_upstreams(
    connection: bytes, lines: list[str]
) -> None:
    sent = ["Connection: Upgrade", "Upgrade: WebSocket", "A: 1"]
    assert build(*sent, connection=connection, extra=b"X-Token-Expires: 1\r\n") == [
        "A: 1",
        *lines,
        "X-Token-Expires: 1",
    ]


def test_a_private_response_says_so_unless_the_upstream_set_its_own() -> None:
    assert build("A: 1", is_private=True) == ["A: 1", "Cache-Control: private"]
    assert build("cache-control: public", is_private=True) == ["cache-control: public"]
    assert build("A: 1") == ["A: 1"]
