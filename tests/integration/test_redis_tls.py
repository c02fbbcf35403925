"""TLS to one Redis, to Sentinels and the master that they name, and to a Cluster."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.store.cache import TokenCache
from sidecar.store.redis import connect
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS
from tests.redis_certificates import Certificates, make_certificates
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.redis_topologies import running_cluster, running_sentinels

RECORD = make_record()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["single", "sentinel", "cluster"])
def url(
    request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path
) -> Iterator[str]:
    """Yield the URL of Redis that speak TLS alone, to us and to each other."""
    binary, tls = binary_of("debian"), certificates.settings()
    if request.param == "single":
        with running_redis(binary, tmp_path, tls=tls) as server:
            yield over_tls(server.url)
    elif request.param == "sentinel":
        with running_sentinels(binary, tmp_path, tls=tls, replicas=1, sentinels=2) as group:
            yield over_tls(group.url(2))
    else:
        with running_cluster(binary, tmp_path, tls=tls) as cluster:
            yield over_tls(cluster.url)


def over_tls(url: str) -> str:
    return url.replace("redis", "rediss", 1)


async def test_tokens_are_kept_looked_up_and_told_of_over_tls(
    url: str, certificates: Certificates
) -> None:
    cache = TokenCache(most_tokens=10, max_age_seconds=60, outage_grace_seconds=0)
    options = f"?ssl_ca_certs={certificates.authority}"
    store = connect(url + options, prefix="sidecar:", budget_seconds=BUDGET_SECONDS, watcher=cache)
    await store.ping()
    await store.create(RECORD)
    assert await store.list() == [RECORD]
    assert await store.look_up(RECORD.digest) == RECORD
    while not cache.is_watching:
        await asyncio.sleep(0.01)
    cache.connect(store.fetch, store.read)
    assert await cache.look_up(RECORD.digest) == RECORD
    assert await store.revoke(RECORD)
    while cache.get(RECORD.digest) is not None:
        await asyncio.sleep(0.001)
    await store.close()


async def reason_of(url: str) -> str:
    """Return why a store is unavailable, in the words of a look-up and of a command."""
    store = connect(url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
    reasons = []
    for call in (store.look_up("0" * 64), store.list()):
        with pytest.raises(StoreUnavailable) as caught:
            await call
        reasons.append(str(caught.value))
    await store.close()
    return " / ".join(reasons)


async def test_a_certificate_of_an_unknown_authority_is_not_accepted(url: str) -> None:
    assert (await reason_of(url)).count("certificate of Redis is not accepted: self-signed") == 2


@pytest.fixture
def server(certificates: Certificates, tmp_path: Path) -> Iterator[RedisServer]:
    """Yield a Redis that wants to see a certificate."""
    tls = certificates.settings(of_clients=True)
    with running_redis(binary_of("debian"), tmp_path, tls=tls) as running:
        yield running


async def test_a_client_certificate_is_shown_if_there_is_one(
    server: RedisServer, certificates: Certificates
) -> None:
    url = f"{over_tls(server.url)}?ssl_ca_certs={certificates.authority}"
    assert "certificate" in (await reason_of(url)).lower()
    own = f"&ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    store = connect(url + own, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
    await store.ping()
    await store.close()


async def test_tls_on_one_side_alone_is_told_as_such(server: RedisServer, tmp_path: Path) -> None:
    assert "does it want TLS" in await reason_of(server.url)
    (tmp_path / "plain").mkdir()
    with running_redis(binary_of("debian"), tmp_path / "plain") as plain:
        assert "did not answer" in await reason_of(over_tls(plain.url)), "it waits for more"


async def test_connections_share_one_context(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making one blocks everything else for 50 ms, and a pool makes many connections at once."""
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def make_and_note() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", make_and_note)
    with running_redis(binary_of("debian"), tmp_path, tls=certificates.settings()) as server:
        url = f"{over_tls(server.url)}?ssl_ca_certs={certificates.authority}"
        store = connect(url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        await asyncio.gather(*(store.list("acme") for _ in range(16)), store.look_up("0" * 64))
        assert server.command("INFO", "clients")["connected_clients"] > 10
        await store.close()
    assert len(made) == 1
