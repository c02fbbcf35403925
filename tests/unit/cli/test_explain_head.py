"""The request that ``sidecar explain`` judges is the one that a caller's client would send."""

from __future__ import annotations

import base64
import io

import pytest

from sidecar.cli.explain import write_head
from sidecar.core.errors import UsageError


def lines_of(method: str, url: str, *headers: str, user: str | None = None) -> list[str]:
    head = write_head(method, url, list(headers), user)
    assert head.endswith(b"\r\n\r\n")
    return head.decode().split("\r\n")[:-2]


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("/v1/7", "/v1/7", "localhost"),
        ("/v1/7?a=%2F&b", "/v1/7?a=%2F&b", "localhost"),
        ("http://example.com/v1/7", "/v1/7", "example.com"),
        ("HTTPS://example.com:8443/v1/7", "/v1/7", "example.com:8443"),
        ("http://example.com", "/", "example.com"),
        ("http://example.com?a=1", "/?a=1", "example.com"),
        ("http://[::1]:2020/v1", "/v1", "[::1]:2020"),
        ("/v1/7?a=1#part", "/v1/7?a=1", "localhost"),
        ("/v1/../7//x", "/v1/../7//x", "localhost"),
        ("/a?b=http://c/d", "/a?b=http://c/d", "localhost"),
        ("*", "*", "localhost"),
    ],
)
def test_the_path_is_judged_as_it_is_written(url: str, target: str, host: str) -> None:
    assert lines_of("GET", url) == [f"GET {target} HTTP/1.1", f"Host: {host}"]


def test_headers_are_sent_as_they_are_and_a_host_replaces_that_of_the_url() -> None:
    assert lines_of("POST", "http://a/x", "host: b", "X-Y:z") == [
        "POST /x HTTP/1.1",
        "host: b",
        "X-Y:z",
    ]


@pytest.mark.parametrize(
    ("user", "typed", "sent"),
    [("acme:a:b", "", "acme:a:b"), ("acme", "päss\n", "acme:päss"), ("acme:", "", "acme:")],
)
def test_a_user_is_sent_as_http_basic_and_a_password_left_out_is_asked(
    user: str, typed: str, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
    encoded = base64.b64encode(sent.encode()).decode()
    assert lines_of("GET", "/", user=user)[-1] == f"Authorization: Basic {encoded}"


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("GET", "example.com/v1", ()),
        ("GET", "", ()),
        ("GET", "?token=x", ()),
        ("GET /", "/v1", ()),
        ("", "/v1", ()),
        ("GET", "/v1\r\nX: y", ()),
        ("GET", "/v1", ("X-Y",)),
        ("GET", "/v1", ("X-Y: a\r\nX-Account: b",)),
    ],
)
def test_what_no_client_could_send_is_wrong_usage(
    method: str, url: str, headers: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        write_head(method, url, list(headers), None)
