"""An answer that a service gives in the middle of an upload, before it closes, reaches the caller.

The same uploads go through nginx, Caddy, HAProxy and the sidecar, each between the same two ends;
the sidecar must lose no answer, and none that a peer delivers. ``EARLY_ANSWER_RUNS=100`` repeats
each row so often, and prints the shares.
"""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.e2e.conftest import redis_binary
from tests.interop.early_proxies import Hops, place_caddy, place_haproxy, place_nginx
from tests.interop.early_services import ANSWERS, EarlyService, Told, Upload, upload
from tests.interop.test_assertion_examples import running
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_certificates import make_certificates
from tests.redis_servers import running_redis

RUNS = int(os.environ.get("EARLY_ANSWER_RUNS", "6"))
PLACERS = {"nginx": place_nginx, "caddy": place_caddy, "haproxy": place_haproxy}

ROWS = {
    **{f"{name}": Upload(name) for name in ANSWERS},
    **{f"{name}, chunked upload": Upload(name, is_chunked=True) for name in ("close", "large")},
    **{f"{name}, kept connection": Upload(name, is_kept=True) for name in ANSWERS},
    **{f"{name}, TLS": Upload(name, "tls") for name in ANSWERS},
    **{
        f"{name}, TLS, kept connection": Upload(name, "tls", is_kept=True)
        for name in ("close", "reset", "pieces", "large")
    },
    **{f"{name}, unix": Upload(name, "unix") for name in ANSWERS},
    **{
        f"{name}, Expect: 100-continue": Upload(name, expects_continue=True)
        for name in ("unauthorized", "ok")
    },
}


@pytest.fixture(scope="module")
def hops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hops]:
    place = tmp_path_factory.mktemp("service")
    made = make_certificates(place)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    path = place / "socket"
    services = EarlyService(), EarlyService(tls=context), EarlyService(path)
    yield Hops(services[0].port, services[1].port, path)
    for service in services:
        service.close()


@pytest.fixture(scope="module")
def ports(hops: Hops, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Yield the ports of the sidecar and of its peers; of those that are installed."""
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(redis_binary(), tmp_path_factory.mktemp("redis")))
        settings = {
            "upstreams": {
                "tcp": {"url": f"http://127.0.0.1:{hops.tcp}"},
                "tls": {"url": f"https://127.0.0.1:{hops.tls}", "tls": {"verify": False}},
                "unix": {"url": f"unix:{hops.unix}"},
            },
            "routes": [
                {"path": f"/{hop}/**", "public": True, "upstream": hop}
                for hop in ("tcp", "tls", "unix")
            ],
            "accounts": {"acme": {}},
            "store": {"url": redis.unix_url},
        }
        sidecar = stack.enter_context(ProxyProcess(tmp_path_factory.mktemp("sidecar"), settings))
        found = {"sidecar": sidecar.port}
        for name, place_peer in PLACERS.items():
            if shutil.which(name) is None:
                continue
            port = free_port()
            command = place_peer(tmp_path_factory.mktemp(name), port, hops)
            found[name] = stack.enter_context(running(command, port, add_port=False))
        yield found


def count_answers(port: int, case: Upload) -> tuple[int, int]:
    """Return how many of the runs got the answer's status and all of it, and ended in a reset."""
    with ThreadPoolExecutor(4) as callers:
        told: list[Told] = list(callers.map(lambda _: upload(port, case), range(RUNS)))
    status = int(ANSWERS[case.answer].pieces[0].split()[1])
    whole = sum(one.status == status and one.is_whole for one in told)
    return whole, sum(one.is_reset for one in told)


@pytest.mark.parametrize("row", ROWS)
def test_an_answer_before_the_end_of_an_upload_arrives_as_often_as_through_any_peer(
    ports: dict[str, int], row: str
) -> None:
    found = {name: count_answers(port, ROWS[row]) for name, port in ports.items()}
    shares = " · ".join(f"{name} {whole}" for name, (whole, _) in found.items())
    print(f"{row}: {shares} of {RUNS}")
    answered, resets = found["sidecar"]
    assert answered == RUNS
    assert resets == 0
