"""How addresses and the URLs of upstreams are read."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.diagnostics import Rejected
from sidecar.config.endpoints import SocketAddress, parse_address, parse_upstream_url


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:2020", SocketAddress("0.0.0.0", 2020)),
        ("[::1]:2020", SocketAddress("::1", 2020)),
        ("[fe80::1%eth0]:80", SocketAddress("fe80::1%eth0", 80)),
        ("localhost:0", SocketAddress("localhost", 0)),
        (
            "listener.shop.svc.cluster.local:65535",
            SocketAddress("listener.shop.svc.cluster.local", 65535),
        ),
        ("unix:/run/sidecar/proxy.sock", SocketAddress(path="/run/sidecar/proxy.sock")),
    ],
)
def test_an_address_is_read_and_written_back(text: str, address: SocketAddress) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("2020", "is not an address"),
        (2020, "is not an address"),
        ("localhost", "is not an address"),
        (":2020", "is not an address"),
        ("::1:2020", "is not an address"),
        ("[::1]", "is not an address"),
        ("http://localhost:2020", "is not an address"),
        ("a b:1", "is not an address"),
        ("host:1\n", "is not an address"),
        ("host:65536", "port above 65535"),
        ("[1:2]:80", "not an IP address"),
        ("300.1.1.1:80", "not an IP address"),
        ("unix:proxy.sock", "not an absolute path"),
        ("unix:/", "not an absolute path"),
        ("unix:/" + "x" * 107, "longer than 107 bytes"),
        (None, "is not an address"),
    ],
)
def test_an_invalid_address_is_refused_with_advice(text: object, fragment: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_address(text)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("text", "scheme", "address", "authority"),
    [
        ("http://127.0.0.1:8080", "http", SocketAddress("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("http://listener", "http", SocketAddress("listener", 80), "listener"),
        ("http://listener:80/", "http", SocketAddress("listener", 80), "listener"),
        ("https://listener", "https", SocketAddress("listener", 443), "listener"),
        ("https://[::1]", "https", SocketAddress("::1", 443), "[::1]"),
        ("https://[::1]:8443", "https", SocketAddress("::1", 8443), "[::1]:8443"),
        ("unix:/run/app.sock", "http", SocketAddress(path="/run/app.sock"), "localhost"),
        ("unix:///run/app.sock", "http", SocketAddress(path="/run/app.sock"), "localhost"),
    ],
)
def test_the_url_of_an_upstream_is_a_scheme_and_an_address(
    text: str, scheme: str, address: SocketAddress, authority: str
) -> None:
    origin = parse_upstream_url(text)
    assert (origin.scheme, origin.address, origin.authority) == (scheme, address, authority)
    assert origin.is_tls == (scheme == "https")
    assert parse_upstream_url(str(origin)) == origin


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("listener:8080", "not the URL of an upstream"),
        ("ftp://listener", "not the URL of an upstream"),
        ("HTTP://listener", "not the URL of an upstream"),
        ("http://", "is not an address"),
        ("http://user:hunter2@listener", "with a user or password"),
        ("http://listener/base", "with a path or query"),
        ("http://listener?x=1", "with a path or query"),
        ("http://listener#x", "with a path or query"),
        ("http://listener:0", "port 0"),
        ("http://hunter2 hunter2", "is not an address"),
        ("unix:app.sock", "not an absolute path"),
        (8080, "is not a URL"),
    ],
)
def test_a_url_with_too_much_or_too_little_is_refused_and_not_shown(
    text: object, fragment: str
) -> None:
    with pytest.raises(Rejected) as caught:
        parse_upstream_url(text)
    assert fragment in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for prefix in ("", "http://", "unix:/"):
        for read in (parse_address, parse_upstream_url):
            with suppress(Rejected):
                assert str(read(prefix + text))
