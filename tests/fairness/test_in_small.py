"""Groups F and X at small scale: fairness as an order, a status or a cost, never as a time.

``tests/soak/test_fairness.py`` tests it at full size, with percentiles.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import redis_binary
from tests.e2e.witness import wait_until
from tests.fairness import attacks
from tests.fairness.attacks import ATTACKS, CHUNKED, EXHAUSTION, KIB, LENGTH, MIB, PROTECTED, PUBLIC
from tests.fairness.honest import ADDRESS
from tests.fairness.stage import (
    Attacking,
    Honest,
    Service,
    Stage,
    forget_peak,
    peak_bytes,
    running_stage,
)
from tests.fairness.verdict import MOST_BYTES
from tests.redis_servers import RedisServer, running_redis

FEW = 8
"""The connections allowed to the service behind ``/few`` and ``/mine``."""
STRANGER, OTHER = "127.0.0.2", ADDRESS

MOST_IN_A_TURN = 500
"""How many requests of one connection may be answered before another gets its turn."""
BODY_BYTES = 4 * MIB
MOST_TIMES_THE_COST = 3.0
"""The promise is twice; here, occasional other work of the worker is counted as well."""
MOST_TIMES_A_REFUSAL = 5.0

_serial = count(1)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def stage(
    redis: RedisServer, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    changes = {
        "upstreams": {
            "listener": {"url": service.url},
            "few": {"url": service.url, "max_connections": FEW},
        },
        "routes": [
            {"path": "/public/**", "public": True, "upstream": "listener"},
            {"path": "/few/**", "public": True, "upstream": "few"},
            {"path": "/mine/**", "upstream": "few"},
            {"path": "/v1/dynamic/listener/**", "upstream": "listener"},
        ],
        "access_log": {"path": "-"},
    }
    directory = tmp_path_factory.mktemp("stage")
    with running_stage("plain", redis, service, directory, changes, has_core=False) as stage:
        yield stage


def get(target: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: a", *lines, "", "")).encode()


def bearer(secret: str) -> str:
    return f"access_token: {secret}"


@contextmanager
def clients(stage: Stage, number: int, source: str) -> Iterator[list[RawClient]]:
    """Open so many connections, and get one answer on each."""
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            opened.append(RawClient(stack.enter_context(stage.connect(source))))
            opened[-1].send(get("/nothing"))
            assert opened[-1].read_answer() is not None
        yield opened


@contextmanager
def standing_still(stage: Stage) -> Iterator[None]:
    """Stop the worker during the block, so that it then finds everything sent meanwhile."""
    worker = stage.proxy.worker
    os.kill(worker, signal.SIGSTOP)
    try:
        assert wait_until(lambda: state_of(worker) == "T")
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def state_of(pid: int) -> str:
    """Return the state of the first thread of a process (proc(5))."""
    return Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()[0]


PIPELINED = {
    "refusals": attacks.REFUSED,
    "refused bodies": attacks.upload(b"/z", LENGTH % 10) + b"0123456789",
    "refused tokens": attacks.HIT.replace(b"{token}", b"sct_" + b"0" * 60),
    "hits": attacks.HIT,
}


@pytest.mark.parametrize("connections", [1, 8])
@pytest.mark.parametrize("kind", PIPELINED)
def test_a_request_is_answered_before_most_of_what_others_had_pipelined_earlier(
    kind: str, connections: int, stage: Stage
) -> None:
    """F1, F2: the access log shows the order in which the worker answers."""
    number = next(_serial)
    one = PIPELINED[kind].replace(b"{token}", stage.attackers.secret.encode())
    one = one.replace(
        b" HTTP/1.1", b"-%d- HTTP/1.1" % number
    )  # distinct from those of earlier cases
    piece = attacks.repeated(one, 255 * KIB)
    mine = f"/mine-{number}"
    # Two, as the connection that was answered last may be served before all others.
    with clients(stage, connections, STRANGER) as others, clients(stage, 2, OTHER) as (honest, _):
        mark = len(stage.proxy.stdout)
        with standing_still(stage):
            for other in others:
                other.sock.setblocking(False)
                sent = other.sock.send(piece)
                assert sent > 100 * KIB
            honest.send(get(mine))
        drain(others, honest)
        assert wait_until(lambda: mine in stage.proxy.stdout[mark:])
    before = stage.proxy.stdout[mark:].partition(mine)[0].count(f'-{number}-"')
    print(f"{before} were answered before")
    assert before < MOST_IN_A_TURN * connections


def drain(others: list[RawClient], honest: RawClient) -> None:
    """Read from all connections until the honest one is answered."""
    with selectors.DefaultSelector() as selector:
        for client in (*others, honest):
            selector.register(client.sock, selectors.EVENT_READ, client)
        while True:
            ready = selector.select(20)
            assert ready, "nothing comes any more"
            for key, _ in ready:
                assert key.data.sock.recv(1 << 20), "it was closed"
            if any(key.data is honest for key, _ in ready):
                return


def cpu_seconds(stage: Stage, sent: bytes) -> float:
    """Return the processor time of the worker's loop for one request: the best of three."""
    pid = stage.proxy.worker
    took = []
    for _ in range(3):
        began = run_seconds(pid)
        with closing(stage.connect(STRANGER)) as sock:
            client = RawClient(sock)
            client.send(sent)
            answer = client.read_answer(b"POST")
            assert answer is not None
        took.append(run_seconds(pid) - began)
    return min(took)


def run_seconds(pid: int) -> float:
    """Return the processor time of the first thread of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


@pytest.mark.parametrize("data", ["CR LF CR LF", "0 CR LF CR LF"])
def test_a_chunked_body_costs_what_one_with_a_length_does_whatever_is_in_it(
    data: str, stage: Stage
) -> None:
    """F3."""
    piece, size, _ = attacks.CHUNK_DATA[data]
    total = BODY_BYTES // size * size
    chunked = attacks.upload(PUBLIC, CHUNKED) + attacks.chunks(piece, size, total)
    plain = attacks.upload(PUBLIC, LENGTH % total) + b"x" * total
    usual, cost = cpu_seconds(stage, plain), cpu_seconds(stage, chunked)
    print(f"{usual * 1000:.1f} ms by length, {cost * 1000:.1f} ms")
    assert cost < usual * MOST_TIMES_THE_COST


@pytest.mark.parametrize("data", ["CR LF CR LF", "0 CR LF CR LF", "one byte each"])
def test_a_body_is_not_read_into_before_the_verdict(data: str, stage: Stage) -> None:
    """F3, without a token. How much is discarded before the close is a matter of luck."""
    piece, size, total = attacks.CHUNK_DATA[data]
    chunked = attacks.upload(PROTECTED, CHUNKED) + attacks.chunks(piece, size, total)
    plain = attacks.upload(PROTECTED, LENGTH % len(chunked)) + b"x" * len(chunked)
    usual, cost = cpu_seconds(stage, plain), cpu_seconds(stage, chunked)
    print(f"{usual * 1000:.1f} ms by length, {cost * 1000:.1f} ms")
    assert cost < usual * MOST_TIMES_A_REFUSAL


@pytest.mark.parametrize("who", ["stranger", "account"])
@pytest.mark.parametrize("what", ["uploads", "downloads"])
def test_slow_bodies_of_one_caller_leave_another_a_connection_to_the_service(
    what: str, who: str, stage: Stage
) -> None:
    """F5: one address, or one account from many addresses, holds all allowed connections."""
    target = b"/few" if who == "stranger" else b"/mine"
    mine = b"access_token: %b\r\n" % stage.attackers.secret.encode() * (who == "account")
    if what == "uploads":
        head = attacks.upload(target + b"/a", LENGTH % MIB, mine)
    else:
        head = b"GET %b/big/%d HTTP/1.1\r\nHost: a\r\n%b\r\n" % (target, 100 * MIB, mine)
    with ExitStack() as stack:
        for number in range(FEW):
            source = STRANGER if who == "stranger" else f"127.0.{number}.9"
            slow = stack.enter_context(closing(stage.connect(source)))
            slow.sendall(head)
        assert wait_until(lambda: open_connections(stage) == FEW)
        (honest,) = stack.enter_context(clients(stage, 1, OTHER))
        honest.send(get("/mine/a", bearer(stage.honest.secret)))
        answer = honest.read_answer()
        assert answer is not None
        assert answer.status == 200


def open_connections(stage: Stage) -> int:
    """Return the number of open connections to the service that allows few."""
    found = [
        line.rpartition(" ")[2]
        for line in stage.metrics()
        if line.startswith("sidecar_upstream_connections{")
        and 'upstream="few"' in line
        and 'state="open"' in line
    ]
    return int(float(found[0]))


def test_heads_that_never_end_have_a_budget(stage: Stage) -> None:
    """F6."""
    forget_peak(stage.proxy.workers())
    attacker = Attacking(stage, ATTACKS["F6 6000 heads"], seconds=4, share=0.6)
    account = attacker.end()
    assert account.opened >= 3600
    assert peak_bytes(stage.proxy.workers()) < MOST_BYTES


def test_ever_new_tokens_do_not_make_a_healthy_store_unavailable(stage: Stage) -> None:
    """F4, banned and not."""
    before = stage.unavailable()
    honest = Honest(stage)
    floods = ("F4 one address, 8 at a time", "F4 50 addresses, 8 at a time")
    attackers = [Attacking(stage, ATTACKS[name], seconds=4) for name in floods]
    for attacker in attackers:
        print(attacker.end())
    assert served(honest) == {200}
    assert stage.unavailable() == before


def served(honest: Honest) -> set[int]:
    """End an honest caller; return the statuses of all its answers."""
    return {one.status for asker in honest.end().askers.values() for one in asker}


def test_connections_count_before_they_have_shaken_hands(
    redis: RedisServer, service: Service, tmp_path: Path
) -> None:
    """F7: of a hundred silent connections, those above the limit of twenty are closed at once."""
    with (
        running_stage("tls, 20", redis, service, tmp_path, has_core=False) as stage,
        ExitStack() as stack,
        selectors.DefaultSelector() as selector,
    ):
        for _ in range(100):
            silent = stack.enter_context(closing(stage.connect(STRANGER)))
            selector.register(silent, selectors.EVENT_READ)
        deadline = time.monotonic() + 5  # a handshake has ten seconds
        while len(selector.get_map()) > 20 and time.monotonic() < deadline:
            for key, _ in selector.select(1):
                selector.unregister(key.fileobj)
        assert len(selector.get_map()) <= 20


def test_all_that_exhausts_leaves_an_honest_caller_his_answers(stage: Stage) -> None:
    """X, all of it at once."""
    workers = stage.proxy.workers()
    forget_peak(workers)
    played = [attack for attack in EXHAUSTION if attack.stage == "plain"]
    honest = Honest(stage)
    attackers = [Attacking(stage, attack, seconds=4, share=0.25) for attack in played]
    for attack, attacker in zip(played, attackers, strict=True):
        print(attack.name, attacker.end())
    assert served(honest) == {200}
    assert stage.proxy.workers() == workers
    assert peak_bytes(workers) < MOST_BYTES
