"""What a store URL means, and that a faulty one is told without repeating it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.store.endpoints import Endpoint, Login
from sidecar.store.store_url import StoreUrl, Topology, UnusableUrl, parse_store_url, place_files

SINGLE, SENTINEL, CLUSTER = Topology.SINGLE, Topology.SENTINEL, Topology.CLUSTER
SOCKET = Endpoint(path="/run/my redis.sock")


GOOD = {
    "redis://": None,
    "redis://h": StoreUrl(SINGLE, (Endpoint("h", 6379),), Login()),
    "redis://h:1/5": StoreUrl(SINGLE, (Endpoint("h", 1),), Login(database=5)),
    "redis://[::1]:7": StoreUrl(SINGLE, (Endpoint("::1", 7),), Login()),
    "redis://H:/1": StoreUrl(SINGLE, (Endpoint("h", 6379),), Login(database=1)),
    "redis://[fe80::1%eth0]:7": StoreUrl(SINGLE, (Endpoint("fe80::1%eth0", 7),), Login()),
    "redis://h?db=3": StoreUrl(SINGLE, (Endpoint("h", 6379),), Login(database=3)),
    "redis://:p%40ss@h": StoreUrl(SINGLE, (Endpoint("h", 6379),), Login("default", "p@ss")),
    "redis://u:p:q@h/1": StoreUrl(SINGLE, (Endpoint("h", 6379),), Login("u", "p:q", 1)),
    "unix:///run/my%20redis.sock": StoreUrl(SINGLE, (SOCKET,), Login()),
    "unix://u:p@/run/my%20redis.sock?db=2": StoreUrl(SINGLE, (SOCKET,), Login("u", "p", 2)),
    "rediss://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=false": StoreUrl(
        SINGLE,
        (Endpoint("h", 6379),),
        Login(),
        is_tls=True,
        tls_options={"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False},
    ),
    "redis+sentinel://u:p@h1:1,h2/main/4?sentinel_password=s": StoreUrl(
        SENTINEL,
        (Endpoint("h1", 1), Endpoint("h2", 26379)),
        Login("u", "p", 4),
        service="main",
        sentinel_login=Login("default", "s"),
    ),
    "redis+cluster://h1:1,[::2]:2,h3": StoreUrl(
        CLUSTER, (Endpoint("h1", 1), Endpoint("::2", 2), Endpoint("h3", 6379)), Login()
    ),
    "rediss+cluster://h": StoreUrl(CLUSTER, (Endpoint("h", 6379),), Login(), is_tls=True),
}


@pytest.mark.parametrize(("url", "meant"), GOOD.items(), ids=GOOD.keys())
def test_a_good_url_means_one_thing(url: str, meant: StoreUrl | None) -> None:
    if meant is None:
        with pytest.raises(UnusableUrl, match="host or port"):
            parse_store_url(url)
    else:
        assert parse_store_url(url) == meant


BAD = {
    "": "is not the URL of a store",
    "embeded": "is not the URL of a store",
    "http://:PASSWORD@h": "is not the URL of a store",
    "redis+rediss://:PASSWORD@h": "is not the URL of a store",
    "redis:h:6379": "host or port",
    "redis://:PASSWORD@h:99999": "host or port",
    "redis://:PASSWORD@h:x": "host or port",
    "redis://:PASSWORD@h:$PORT": "host or port",
    "redis://:PASSWORD@[::1": "host or port",
    "redis://:PASSWORD@[::g]": "host or port",
    "redis://::1:6379": "host or port",
    "redis+cluster://:PASSWORD@h1,[::1": "host or port",
    "redis+cluster://:PASSWORD@h1,::1": "host or port",
    "rediss://": "host or port",
    "rediss://:PASSWORD@/0": "host or port",
    "redis://:PASSWORD@h:0": "port 0",
    "redis://:PASSWORD@a..b": "neither a name nor an IP address",
    "redis://:PASSWORD@h%20x": "neither a name nor an IP address",
    "redis://:PASSWORD@h%00": "neither a name nor an IP address",
    f"redis://:PASSWORD@{'x' * 64}.test": "neither a name nor an IP address",
    "redis://:PASSWORD@10.0.0.256": "neither a name nor an IP address",
    "redis://:PASSWORD@h\u00f6st": "neither a name nor an IP address",
    "redis://:PASSWORD@h1,h2": "several hosts",
    "redis://tcp://10.0.0.1:6379": "not a number",
    "redis://:PASSWORD@h/main": "not a number",
    "redis://:PASSWORD@h:6379/0/1": "not a number",
    "redis://:PASSWORD@h/100000": "not a number",
    "redis://:PASSWORD@h/\u0663": "not a number",
    "redis://:PASSWORD@h?db=-1": "not a number",
    "unix:///run/r.sock?db=x": "write it as \\?db=0",
    "redis://:PASSWORD@h/a?db=1": "a database twice",
    "redis://:PASSWORD@h/2?db=1": "a database twice",
    "redis://:PASSWORD@h?db=1&db=1": "db 2 times",
    "redis://u:PASSWORD@h?password=PASSWORD2": "a password twice",
    "redis://u:PASSWORD@h?username=v": "a user twice",
    "redis://:PASSWORD@h?socket_timeout=60": "unknown option socket_timeout; remove it",
    "redis://:PASSWORD@h?DB=1": "unknown option after its",
    "redis://:PASSWORD@h?ssl=true": "unknown option ssl; for TLS, begin it with rediss",
    "redis://:PASSWORD@h?tls=1": "unknown option tls; for TLS",
    "redis://:PASSWORD@h?ssl_keyfile=k": "begin it with rediss",
    "redis://h?sentinel_password=PASSWORD": "names no Sentinels",
    "unix://": "names no socket",
    "unix:///": "names no socket",
    "unix://?db=1": "names no socket",
    "unix:redis.sock": "names no socket",
    "unix://host/path": "names no socket",
    "unix:///run/%00": "can't exist",
    f"unix:///{'x' * 107}": "more than 107 bytes",
    "redis+sentinel://:PASSWORD@h1,h2": "names no master",
    "redis+sentinel://:PASSWORD@h1,h2/": "names no master",
    "redis+sentinel://:PASSWORD@h1,,h2/main": "host or port",
    "redis+sentinel://:PASSWORD@h1/main/x": "not a number",
    "redis+cluster://:PASSWORD@h1/1": "a Redis Cluster has 0 alone",
    "redis+cluster://:PASSWORD@h1?db=1": "a Redis Cluster has 0 alone",
    "redis://:PASS/WORD@h:6379/0": "cut short",
    "redis://:PASS#WORD@h:6379/0": "cut short",
    "redis://:PASS?WORD@h:6379/0": "cut short",
    "redis://:PASS?a=WORD@h:6379/0": "cut short",
    "redis://:P@SS/WORD@h:6379/0": "cut short",
    "redis+sentinel://:PASS/WORD@h1/main/0": "cut short",
    "unix://:PASS#WORD@/run/r.sock": "cut short",
    "redis://u:12?WORD@h:6379": "unknown option after its",
    "redis://:PASSWORD@h/0#1": "contains a #",
    "redis://:PASSWORD@h\n": "white space",
    "redis://:PASS WORD@h": "white space",
    "redis://:PASSWORD@h\t:1": "white space",
    "redis://:%ff@h": "not UTF-8",
    "rediss://h?ssl_cert_reqs=never": "ssl_cert_reqs; write none, optional, required",
    "rediss://h?ssl_check_hostname=maybe": "write true or false",
    "rediss://h?ssl_ca_certs=": "an empty ssl_ca_certs",
    "rediss://h?ssl_keyfile=k": "no ssl_certfile",
}


@pytest.mark.parametrize(("url", "why"), BAD.items(), ids=[ascii(url)[:60] for url in BAD])
def test_a_faulty_url_is_told_without_its_password(url: str, why: str) -> None:
    with pytest.raises(UnusableUrl, match=why) as caught:
        parse_store_url(url)
    assert not any(part in str(caught.value) for part in ("PASS", "WORD", "SS/"))


SPELLINGS = {
    "redis://:p@ss@h": ("p@ss", None),
    "redis://:100%@h": ("100%", None),
    "redis://h?password=p@ss": ("p@ss", None),
    "redis://:p%2Fq%23r@h": ("p/q#r", None),
    "rediss://h?ssl_cert_reqs=CERT_NONE": (None, "none"),
    "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true": (None, "none"),
    "rediss://h?ssl_cert_reqs=Required": (None, "required"),
}


@pytest.mark.parametrize(("url", "meant"), SPELLINGS.items(), ids=SPELLINGS)
def test_passwords_and_verification_may_be_spelt_as_other_clients_have_them(
    url: str, meant: tuple[str | None, str | None]
) -> None:
    found = parse_store_url(url)
    assert (found.login.password, found.tls_options.get("ssl_cert_reqs")) == meant


SHOWN = {
    "redis://u:PASSWORD@h": "redis://h:6379",
    "rediss://:PASSWORD@[::1]:7/3?ssl_password=PASSWORD": "rediss://[::1]:7/3",
    "unix://:PASSWORD@/run/r.sock?db=2": "unix:///run/r.sock?db=2",
    "redis+sentinel://:PASSWORD@h1,h2:1/main/4": "redis+sentinel://h1:26379,h2:1/main/4",
    "rediss+cluster://:PASSWORD@h1,h2": "rediss+cluster://h1:6379,h2:6379",
}


@pytest.mark.parametrize(("url", "shown"), SHOWN.items(), ids=SHOWN)
def test_a_url_is_shown_without_user_password_and_options(url: str, shown: str) -> None:
    assert str(parse_store_url(url)) == shown


def test_files_are_named_from_the_directory_of_the_configuration() -> None:
    url = (
        "rediss://:p%40ss@h/1?ssl_ca_certs=ca.pem&ssl_keyfile=/k&ssl_certfile=c&ssl_password=a%26b"
    )
    placed = parse_store_url(place_files(url, Path("/etc/sidecar")))
    assert placed.tls_options == {
        "ssl_ca_certs": "/etc/sidecar/ca.pem",
        "ssl_certfile": "/etc/sidecar/c",
        "ssl_keyfile": "/k",
        "ssl_password": "a&b",
    }
    assert placed.login == Login("default", "p@ss", 1)


def test_a_url_with_absolute_files_or_none_stays_as_it_is() -> None:
    for url in ("redis://:p+q@h?db=1", "rediss://h?ssl_ca_certs=/ca.pem"):
        assert place_files(url, Path("/etc/sidecar")) == url


def test_no_password_shows_in_a_repr() -> None:
    address = parse_store_url(
        "rediss+sentinel://:PASSWORD@h/n?sentinel_password=PASSWORD&ssl_password=PASSWORD"
    )
    assert "PASSWORD" not in repr(address)
