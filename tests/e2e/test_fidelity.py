"""What the upstream gets is what the caller sent: path, query, header order, case and duplicates."""

# ruff: noqa: E501  (a table reads best with a row a line)

from __future__ import annotations

import re

import pytest

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, Tokens
from tests.upstream_recorder import Recorder

ADDED = {
    "via",
    "x-account",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "traceparent",
    "x-request-id",
}
OWN = {"authorization", "access-token", "connection", "keep-alive", "te", *ADDED}
BEARER = b"Authorization: Bearer {token}"

# (target, what the upstream sees of it, header lines)
ODD: list[tuple[bytes, bytes, list[bytes]]] = [
    (b"", b"", [BEARER]),
    (b"?", b"?", [BEARER]),
    (b"?a=1&b=2", b"?a=1&b=2", [BEARER]),
    (b"?b=2&a=1&b=1", b"?b=2&a=1&b=1", [BEARER]),
    (b"?a=%2F%2f&b=%20+%2B", b"?a=%2F%2f&b=%20+%2B", [BEARER]),
    (b"?a&b=&=c&&", b"?a&b=&=c&&", [BEARER]),
    (b"?q=a%zz%&r=%", b"?q=a%zz%&r=%", [BEARER]),
    (b"?a=?/?&b=/../..", b"?a=?/?&b=/../..", [BEARER]),
    (b"?a[]=1&a[]=2&a[k]=3", b"?a[]=1&a[]=2&a[k]=3", [BEARER]),
    (b"?a;b;c=d;e", b"?a;b;c=d;e", [BEARER]),
    (b"?next=http://a.example/?x=1", b"?next=http://a.example/?x=1", [BEARER]),
    (b"?access_token={token}", b"", []),
    (b"?z=1&access_token={token}&a=%41", b"?z=1&a=%41", []),
    (b"?access_token={token}&z=+", b"?z=+", []),
    (b"?z=1&token={token}&z=2&jwt_token={token}&z=1", b"?z=1&z=2&z=1", []),
    (b"?%61ccess_token={token}&x", b"?x", []),
    (b"?accesstoken=1&token={token}&tokens=2", b"?accesstoken=1&tokens=2", []),
    (b"", b"", [b"x-a: 1", b"X-A: 2", BEARER, b"X-a: 3", b"x-A: 1"]),
    (b"", b"", [b"z: 1", b"a: 2", BEARER, b"m: 3"]),
    (b"", b"", [b"X-Empty:", BEARER, b"X-Spaces:    "]),
    (b"", b"", [b"X-Inner:  a   b\tc  ", BEARER]),
    (b"", b"", [b"X-High: caf\xc3\xa9 \xff", BEARER]),
    (b"", b"", [b"Cookie: a=1; b=2", BEARER, b"Cookie: c=3"]),
    (b"", b"", [b"Accept: */*;q=0.1, text/html", b"Accept-Encoding: gzip, br", BEARER]),
    (b"", b"", [b"!#$%&'*+-.^_`|~: odd name", BEARER]),
    (b"", b"", [b"Range: bytes=0-1", b"If-None-Match: \"a\", W/\"b\"", BEARER]),
    (b"", b"", [b"User-Agent:", BEARER]),
    (b"", b"", [b"Content-Type: text/plain; charset=\"utf-8\"", b"Content-Length: 0", BEARER]),
    (b"", b"", [b"access_token: {token}", b"X-Between: 1", BEARER]),
    (b"", b"", [b"X-Long: " + b"a" * 8000, BEARER]),
    (b"", b"", [BEARER, *(b"X-Many: %d" % n for n in range(60))]),
    (b"", b"", [b"Referer: https://shop.example/a?b=c#d", b"Origin: null", BEARER]),
]  # fmt: skip


def fold(name: bytes) -> str:
    return re.sub(r"[^a-z0-9]", "-", name.decode("latin-1").lower())


@pytest.mark.parametrize("number", range(len(ODD)))
def test_an_odd_request_arrives_byte_for_byte(
    number: int, client: RawClient, recorder: Recorder, tokens: Tokens
) -> None:
    query, remaining, lines = ODD[number]
    mark = recorder.mark()
    lines = [b"hOST: Shop.Example:8080", *lines]
    head = b"\r\n".join([b"GET " + LISTENER + query + b" HTTP/1.1", *lines, b"", b""])
    client.send(head.replace(b"{token}", tokens.valid.encode()))
    answer = client.read_answer()
    assert answer is not None
    assert answer.status == 200
    (seen,) = recorder.requests_since(mark)
    assert seen.request_line == b"GET " + LISTENER + remaining + b" HTTP/1.1"
    sent = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    assert [h for h in seen.headers if fold(h[0]) not in OWN] == [
        h for h in sent if fold(h[0]) not in OWN
    ]
    assert [value for name, value in seen.headers if fold(name) == "x-account"] == [b"acme"]


def test_each_request_gets_an_id_of_its_own_and_a_sane_one_is_kept(
    client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    mark = recorder.mark()
    for lines in ([bearer], [bearer], [bearer, b"X-Request-Id: order-4711"]):
        client.send(b"\r\n".join([b"GET %s HTTP/1.1" % LISTENER, b"Host: a", *lines, b"", b""]))
        assert client.read_answer() is not None
    first, second, third = (
        exchange.values("x-request-id") for exchange in recorder.requests_since(mark)
    )
    assert len(first) == len(second) == 1
    assert first != second
    assert third == [b"order-4711"]
