"""Who is calling, according to proxies that are trusted, and who is trusted."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.trusted_proxies import MOST_HOPS, UNKNOWN, TrustedProxies

PROXIES = TrustedProxies(
    [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_network("192.0.2.7")]
)
UNIX_TOO = TrustedProxies([ip_network("10.0.0.0/8")], trusts_unix=True)
PEER = "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "is_trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("::FFFF:0a01:0203", True),
        ("2001:db8::1", True),
        ("2001:db8::1%eth0", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("11.0.0.1", False),
        ("::1", False),
        ("unix:", False),
        ("", False),
        ("10.1.2.3:80", False),
        ("010.1.2.3", False),
        ("localhost", False),
    ],
)
def test_only_peers_in_a_configured_network_are_trusted(peer: str, is_trusted: bool) -> None:
    assert PROXIES.is_trusted(peer) == is_trusted


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.1", "unix:"])
def test_nobody_is_trusted_by_default(peer: str) -> None:
    assert not TrustedProxies().is_trusted(peer)


def test_a_peer_on_a_unix_socket_is_trusted_if_that_is_configured() -> None:
    assert UNIX_TOO.is_trusted("unix:")
    assert not UNIX_TOO.is_trusted("")
    assert not UNIX_TOO.is_trusted("unix:/run/other.sock")


@pytest.mark.parametrize(
    ("forwarded_for", "caller"),
    [
        ([b"198.51.100.1"], "198.51.100.1"),
        ([b"203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ([b"203.0.113.9", b"198.51.100.1"], "198.51.100.1"),
        ([b"198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ([b"198.51.100.1,10.0.0.2 ,\t10.0.0.3"], "198.51.100.1"),
        ([b"203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ([b"198.51.100.1", b"10.0.0.2, 10.0.0.3", b"10.0.0.4"], "198.51.100.1"),
        ([b"10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ([b"2a00:0dB8::5"], "2a00:db8::5"),
        ([b"2001:db8::9, 10.0.0.3"], "2001:db8::9"),
    ],
)
def test_the_caller_is_the_last_hop_that_no_trusted_proxy_stands_for(
    forwarded_for: list[bytes], caller: str
) -> None:
    assert PROXIES.caller_of(PEER, tuple(forwarded_for), ()) == caller


@pytest.mark.parametrize(
    "written",
    [
        b"198.51.100.9:1234",
        b"198.51.100.9:",
        b'"198.51.100.9"',
        b'"198.51.100.9:1234"',
        b"[::ffff:198.51.100.9]:80",
        b"::ffff:198.51.100.9",
        b"::FFFF:C633:6409",
        b"198.51.100.9,",
        b"198.51.100.9, , ,",
        b"198.51.100.9 \t",
        b" 198.51.100.9:1234 , 10.0.0.2:4711 ,",
        b"203.0.113.1:80,198.51.100.9:81,10.0.0.2:82",
    ],
)
def test_an_address_counts_however_a_proxy_writes_it(written: bytes) -> None:
    assert PROXIES.caller_of(PEER, (written,), ()) == "198.51.100.9"


@pytest.mark.parametrize(
    "written",
    [
        b"2a00::5",
        b"[2a00::5]",
        b"[2a00::5]:4711",
        b'"[2a00::5]:4711"',
        b"2a00::5%eth0",
        b"[2a00::5%25eth0]:443",
        b"2a00:0:0:0:0:0:0:5",
        b"2a00:0:0:0:0:0:0:5:4711",
        b"2A00:0::0005 ,",
    ],
)
def test_an_ipv6_address_counts_with_brackets_port_or_zone(written: bytes) -> None:
    assert PROXIES.caller_of(PEER, (written,), ()) == "2a00::5"


@pytest.mark.parametrize(
    "written",
    [
        b"unknown",
        b"_hidden",
        b"shop.example.com",
        b"198.51.100.1.9",
        b"198.51.100.256",
        b"198.051.100.1",
        b"198.51.100.9:port",
        b"198.51.100.9:123456",
        b"[198.51.100.9]:80:80",
        b'fe80::1%"},{"x":"',
        b"[2a00::5",
        b"203.0.113.9\xff",
        b"203.0.113.9\xa0",
        b"203.0.113.9 198.51.100.1",
        b"203.0.113.9; 198.51.100.1",
        b'"',
        b'""',
        b"unix:",
        b"x" * 100_000,
        b"0x7f.1",
    ],
)
@pytest.mark.parametrize("before", [b"", b"203.0.113.9, ", b'10.0.0.7, ", ', b"[,"])
def test_a_caller_that_the_last_proxy_does_not_name_has_no_address_and_cannot_choose_one(
    before: bytes, written: bytes
) -> None:
    expected = "unix:" if written == b"unix:" else UNKNOWN
    assert PROXIES.caller_of(PEER, (before + written,), ()) == expected
    assert PROXIES.caller_of(PEER, (before + written + b", 10.0.0.2",), ()) == expected


@pytest.mark.parametrize("silent", [(), (b"",), (b" ",), (b",",), (b", ,\t,", b"")])
def test_without_a_word_about_earlier_hops_the_peer_is_the_caller(silent: tuple[bytes]) -> None:
    assert PROXIES.caller_of(PEER, silent, ()) == PEER
    assert PROXIES.caller_of(PEER, (), silent) == PEER


def test_a_unix_socket_within_the_chain_is_a_hop_like_others() -> None:
    assert UNIX_TOO.caller_of("unix:", (b"203.0.113.9, 198.51.100.1, unix:",), ()) == "198.51.100.1"
    assert PROXIES.caller_of(PEER, (b"203.0.113.9, 198.51.100.1, unix:",), ()) == "unix:"


@pytest.mark.parametrize(
    ("lines", "caller"),
    [
        ([b"for=198.51.100.9"], "198.51.100.9"),
        ([b"For=198.51.100.9;Proto=https;by=10.0.0.1"], "198.51.100.9"),
        ([b'for="198.51.100.9:4711"'], "198.51.100.9"),
        ([b"for=198.51.100.9:4711"], "198.51.100.9"),
        ([b'for="198.51.100.9:_secret"'], "198.51.100.9"),
        ([b'proto=http ; for="198.51.100.9" ; host="a, b"'], "198.51.100.9"),
        ([b'host="a\\", for=6.6.6.6, \\"b";for=198.51.100.9'], "198.51.100.9"),
        ([b'for="198\\.51\\.100\\.9"'], "198.51.100.9"),
        ([b'for="[2a00::5]:4711"'], "2a00::5"),
        ([b'for="[2a00::5]"'], "2a00::5"),
        ([b"for=[2a00::5]"], "2a00::5"),
        ([b'for="2a00::5"'], "2a00::5"),
        ([b"for=203.0.113.1, for=198.51.100.9"], "198.51.100.9"),
        ([b"for=203.0.113.1", b"for=198.51.100.9"], "198.51.100.9"),
        ([b"for=198.51.100.9, for=10.0.0.2"], "198.51.100.9"),
        ([b"for=198.51.100.9", b'for="10.0.0.2:80"', b'for="[2001:db8::4]"'], "198.51.100.9"),
        ([b"for=198.51.100.9, ,"], "198.51.100.9"),
        ([b"for=198.51.100.9;"], "198.51.100.9"),
        ([b"for=unknown"], UNKNOWN),
        ([b"for=_hidden, for=10.0.0.2"], UNKNOWN),
        ([b'for="_SEVKISEK"'], UNKNOWN),
        ([b"proto=https"], UNKNOWN),
        ([b"for=6.6.6.6, proto=https"], UNKNOWN),
        ([b"for=6.6.6.6;for=7.7.7.7"], UNKNOWN),
        ([b"for=6.6.6.6;FOR=7.7.7.7"], UNKNOWN),
        ([b"for"], UNKNOWN),
        ([b"198.51.100.9"], UNKNOWN),
        ([b'for="198.51.100.9'], UNKNOWN),
        ([b'for=198.51.100.9"'], UNKNOWN),
        ([b"for=198.51.100.9;\\"], UNKNOWN),
        ([b"for=6.6.6.6;x=" + b"y" * 600], UNKNOWN),
    ],
)
def test_forwarded_is_read_where_it_is_all_there_is(lines: list[bytes], caller: str) -> None:
    assert PROXIES.caller_of(PEER, (), tuple(lines)) == caller
    assert PROXIES.caller_of(PEER, (b" ",), tuple(lines)) == caller
    assert PROXIES.caller_of(PEER, (b"192.0.2.44",), tuple(lines)) == "192.0.2.44"


@pytest.mark.parametrize(
    "sent",
    [
        b'for="',
        b'for="6.6.6.6',
        b'for="6.6.6.6\\',
        b'for=";host=',
        b"\\",
        b'"',
        b'""""""',
        b",,,",
        b"for=6.6.6.6;",
        b'a="' + b"," * 5000,
        b'"\\' * 3000,
    ],
)
def test_nothing_that_a_caller_sent_changes_what_the_proxy_appended(sent: bytes) -> None:
    for appended in (b"for=198.51.100.9", b'for="198.51.100.9:80";host="a,b";proto=http'):
        assert PROXIES.caller_of(PEER, (), (sent + b", " + appended,)) == "198.51.100.9"
        assert PROXIES.caller_of(PEER, (), (sent, appended)) == "198.51.100.9"


TRUSTED_TAIL = [b"198.51.100.9", b"10.0.0.2"]


@given(st.binary(max_size=300))
def test_nothing_left_of_the_first_untrusted_hop_is_ever_the_caller(sent: bytes) -> None:
    line = b",".join([sent, *TRUSTED_TAIL])
    assert PROXIES.caller_of(PEER, (sent, line), ()) == "198.51.100.9"
    elements = b",".join([sent, *(b"for=" + hop for hop in TRUSTED_TAIL)])
    assert PROXIES.caller_of(PEER, (), (sent, elements)) == "198.51.100.9"


@given(st.lists(st.binary(max_size=80), max_size=4), st.lists(st.binary(max_size=80), max_size=4))
def test_whatever_is_sent_the_caller_is_an_address_or_has_none(
    forwarded_for: list[bytes], forwarded: list[bytes]
) -> None:
    caller = PROXIES.caller_of(PEER, tuple(forwarded_for), tuple(forwarded))
    assert caller in (UNKNOWN, "unix:") or str(ip_address(caller)) == caller


def test_a_chain_of_trusted_proxies_is_followed_for_a_bounded_number_of_hops() -> None:
    line = b"203.0.113.9, " + b"10.0.0.2, " * 3000 + b"10.0.0.3"
    assert len(PROXIES.walk((line,), ())) == MOST_HOPS
    assert PROXIES.caller_of(PEER, (line,), ()) == "10.0.0.2"
    pairs = b"for=203.0.113.9, " + b"for=10.0.0.2, " * 2000 + b"for=10.0.0.3"
    assert len(PROXIES.walk((), (pairs,))) == MOST_HOPS


def test_what_lies_beyond_the_caller_is_not_read() -> None:
    assert len(PROXIES.walk((b"1.1.1.1, " * 3000 + b"198.51.100.9",), ())) == 1
    assert len(PROXIES.walk((), (b"for=1.1.1.1, " * 2000 + b"for=198.51.100.9",))) == 1
