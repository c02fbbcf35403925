"""PROXY headers, byte for byte: what is read, what is refused, and how early."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.proxy_protocol import MOST_BYTES, MalformedHeader, ProxyHeader, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = socket.inet_aton("198.51.100.9") + socket.inet_aton("192.0.2.1") + b"\x10\x00\x01\xbb"
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2a00::5")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + b"\x10\x00\x01\xbb"
)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:198.51.100.9") + IPV6[16:]
UNIX = b"/run/caller".ljust(108, b"\0") + b"/run/us".ljust(108, b"\0")
TLV = b"\x02\x00\x05a.org\x04\x00\x00" + b"\x20\x01\x00" + b"x" * 256


def binary(kind: int, body: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack(">BBH", command, kind, size) + body


READ = [
    (b"PROXY TCP4 198.51.100.9 192.0.2.1 4096 443\r\n", "198.51.100.9"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2a00::5 2001:db8::1 4096 443\r\n", "2a00::5"),
    (b"PROXY TCP6 2A00:0:0:0:0:0:0:5 2001:DB8::1 0 0\r\n", "2a00::5"),
    (b"PROXY TCP6 ::ffff:198.51.100.9 ::ffff:192.0.2.1 1 2\r\n", "198.51.100.9"),
    (b"PROXY UNKNOWN\r\n", "unknown"),
    (b"PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n", "unknown"),
    (binary(0x11, IPV4), "198.51.100.9"),
    (binary(0x11, IPV4 + TLV), "198.51.100.9"),
    (binary(0x21, IPV6), "2a00::5"),
    (binary(0x21, IPV6 + TLV), "2a00::5"),
    (binary(0x21, MAPPED), "198.51.100.9"),
    (binary(0x31, UNIX), "unknown"),
    (binary(0x31, UNIX + TLV), "unknown"),
    (binary(0x00, b""), "unknown"),
    (binary(0x00, TLV), "unknown"),
    (binary(0x12, IPV4), "unknown"),
    (binary(0x22, IPV6), "unknown"),
    (binary(0x00, b"", command=0x20), ""),
    (binary(0x11, IPV4, command=0x20), ""),
    (binary(0x21, IPV6 + TLV, command=0x20), ""),
    (binary(0x11, b"", command=0x20), ""),
    (binary(0x11, IPV4 + b"\x04\x0f\xd4" + b"\0" * 4052), "198.51.100.9"),
]

REFUSED = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"\n",
    b"\0",
    b"proxy TCP4 198.51.100.9 192.0.2.1 1 2\r\n",
    b" PROXY TCP4 198.51.100.9 192.0.2.1 1 2\r\n",
    b"PROXY  TCP4 198.51.100.9 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 198.51.100.9  192.0.2.1 1 2\r\n",
    b"PROXY TCP4 198.51.100.9 192.0.2.1 1 2 \r\n",
    b"PROXY TCP4 198.51.100.9 192.0.2.1 1\r\n",
    b"PROXY TCP4 198.51.100.9 192.0.2.1 01 2\r\n",
    b"PROXY TCP4 198.51.100.9 192.0.2.1 1 65536\r\n",
    b"PROXY TCP4 198.51.100.9 192.0.2.1 -1 2\r\n",
    b"PROXY TCP4 198.51.100.256 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 198.051.100.9 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 2a00::5 2001:db8::1 1 2\r\n",
    b"PROXY TCP6 198.51.100.9 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 198.51.100.9 nowhere 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n",
    b"PROXY UDP4 198.51.100.9 192.0.2.1 1 2\r\n",
    b"PROXY UNKNOWN\n\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 198.51.100.9 192.0.2.1 1 2\n\r\n",
    b"PROXY " + b"x" * 101,
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    binary(0x11, IPV4, command=0x11),
    binary(0x11, IPV4, command=0x22),
    binary(0x11, IPV4, command=0x2F),
    binary(0x41, IPV4),
    binary(0x13, IPV4),
    binary(0x11, IPV4[:-1]),
    binary(0x11, b""),
    binary(0x21, IPV4),
    binary(0x31, UNIX[:-1]),
    binary(0x11, IPV4, length=65_535),
    binary(0x11, IPV4, length=MOST_BYTES - 15),
    binary(0x00, b"", command=0x20, length=65_535),
    SIGNATURE[:-1] + b"\r",
]


@pytest.mark.parametrize(("header", "client"), READ)
def test_a_header_is_read_to_its_last_byte_and_no_further(header: bytes, client: str) -> None:
    for rest in (b"", b"GET / HTTP/1.1\r\n\r\n", header):
        assert read_header(header + rest) == ProxyHeader(len(header), client)


@pytest.mark.parametrize(("header", "client"), READ)
def test_an_unfinished_header_says_how_much_it_takes_and_never_too_much(
    header: bytes, client: str
) -> None:
    for count in range(len(header)):
        wanted = read_header(header[:count])
        assert isinstance(wanted, int)
        assert count < wanted <= len(header)


@pytest.mark.parametrize(("header", "client"), READ)
def test_a_header_that_is_waited_for_by_what_it_asks_arrives(header: bytes, client: str) -> None:
    wanted, rounds = 1, 0
    while isinstance(wanted, int):
        found = read_header(header[:wanted])
        rounds += 1
        if isinstance(found, ProxyHeader):
            assert found.client == client
            break
        wanted = found
    assert rounds <= 110


@pytest.mark.parametrize("begun", REFUSED)
def test_what_is_no_header_is_refused(begun: bytes) -> None:
    with pytest.raises(MalformedHeader):
        read_header(begun)


@pytest.mark.parametrize("begun", [b"G", b"\x16", b"PROXI", b"\r\n\r\n\0\r\nX", b"PROXYX"])
def test_what_can_never_be_a_header_is_refused_at_its_first_wrong_byte(begun: bytes) -> None:
    with pytest.raises(MalformedHeader):
        read_header(begun)


@given(st.binary(max_size=300))
@pytest.mark.parametrize("start", [b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"])
def test_whatever_comes_it_is_read_refused_or_waited_for_within_the_bound(
    start: bytes, rest: bytes
) -> None:
    begun = start + rest
    try:
        found = read_header(begun)
    except MalformedHeader:
        return
    size = found.size if isinstance(found, ProxyHeader) else found
    assert 0 < size <= MOST_BYTES
    assert (size <= len(begun)) == isinstance(found, ProxyHeader)


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=200))
def test_no_tlv_changes_who_called(source: bytes, tlvs: bytes) -> None:
    header = binary(0x11, source + IPV4[4:] + tlvs)
    assert read_header(header) == ProxyHeader(len(header), socket.inet_ntoa(source))
