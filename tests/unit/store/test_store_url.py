"""What a store URL means, and that a faulty one is told without repeating it."""

from __future__ import annotations

import pytest

from sidecar.core.errors import UsageError
from sidecar.store.endpoints import Endpoint, Login
from sidecar.store.store_url import StoreUrl, Topology, parse_store_url

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
        with pytest.raises(UsageError, match="host or port"):
            parse_store_url(url)
    else:
        assert parse_store_url(url) == meant


BAD = {
    "": "begins with none of",
    "http://:PASSWORD@h": "begins with none of",
    "redis://:PASSWORD@h:99999": "host or port",
    "redis://:PASSWORD@h:x": "host or port",
    "redis://:PASSWORD@[::1": "host or port",
    "redis://:PASSWORD@[::g]": "host or port",
    "redis+cluster://:PASSWORD@h1,[::1": "host or port",
    "redis+cluster://:PASSWORD@h1,::1": "host or port",
    "redis://:PASSWORD@h1,h2": "several hosts",
    "redis://:PASSWORD@h/main": "not a number",
    "redis://:PASSWORD@h?db=-1": "not a number",
    "redis://:PASSWORD@h?socket_timeout=60": "unknown option: socket_timeout",
    "redis://:PASSWORD@h?ssl_keyfile=k": "write rediss",
    "unix://": "names no socket",
    "unix://host/path": "names no socket",
    "redis+sentinel://:PASSWORD@h1,h2": "names no master",
    "redis+sentinel://:PASSWORD@h1,,h2/main": "host or port",
    "redis+sentinel://:PASSWORD@h1/main/x": "not a number",
    "redis+cluster://:PASSWORD@h1/1": "database 0 alone",
}


@pytest.mark.parametrize(("url", "why"), BAD.items(), ids=BAD.keys())
def test_a_faulty_url_is_told_without_its_password(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        parse_store_url(url)
    assert "PASSWORD" not in str(caught.value)


def test_no_password_shows_in_a_repr() -> None:
    address = parse_store_url(
        "rediss+sentinel://:PASSWORD@h/n?sentinel_password=PASSWORD&ssl_password=PASSWORD"
    )
    assert "PASSWORD" not in repr(address)
