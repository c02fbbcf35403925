"""Two sidecars with Sentinels and with a Cluster: revocations, lost masters, moving slots.

A valid token is never refused, whatever happens to its Redis.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path

import pytest
from redis.crc import key_slot

from sidecar.store.record import encode
from tests.e2e.witness import Token, Witness, make_token, running_proxies, trial
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, binary_of, command_on
from tests.redis_topologies import ClusterOfServers, running_cluster, running_sentinels
from tests.soak.conftest import name_of, settings_for
from tests.soak.test_revocation_latency import GOAL_SECONDS, PAUSE_SECONDS, figures, loaded

TRIALS = 200
DATABASE = 2
HEALED_SECONDS = 60.0

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Stage:
    """Several Redis servers: their URL, and the current master of a key."""

    url: str
    master_of: Callable[[str], RedisServer]
    database: int = 0

    def command(self, verb: str, key: str, *words: object) -> None:
        command_on(self.master_of(key).socket, verb, key, *words, database=self.database)

    def put(self, token: Token) -> None:
        self.command("SET", token.key, encode(token.record))

    def ending(self, token: Token) -> Callable[[], object]:
        """Return a function that deletes a token's record at its master, which is found now."""
        socket_path = self.master_of(token.key).socket
        return partial(command_on, socket_path, "DEL", token.key, database=self.database)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterOfServers]:
    with running_cluster(binary_of("debian"), tmp_path / "redis", has_replicas=True) as running:
        yield running


@pytest.fixture(params=["sentinel", "cluster"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    if request.param == "cluster":
        cluster = request.getfixturevalue("cluster")
        yield Stage(cluster.url, cluster.master_of)
        return
    with running_sentinels(binary_of("debian"), tmp_path / "redis") as group:
        yield Stage(group.url(DATABASE), lambda _: group.master, DATABASE)


def make_tokens(stage: Stage, count: int) -> list[Token]:
    tokens = [make_token(name_of(0)) for _ in range(count)]
    for token in tokens:
        stage.put(token)
    return tokens


def test_a_revocation_is_effective_within_50_ms_under_load(
    stage: Stage, upstream: str, tmp_path: Path
) -> None:
    (loading,) = make_tokens(stage, 1)
    settings = settings_for(stage.url, upstream, tmp_path)
    with running_proxies(tmp_path, settings) as proxies, loaded(proxies, loading):
        time.sleep(1)
        effects = []
        for token in make_tokens(stage, TRIALS):
            effects.append(trial(proxies, token, stage.ending(token), PAUSE_SECONDS))
    passed = sorted(effect.last_pass_seconds for effect in effects)
    refused = sorted(effect.refused_seconds for effect in effects)
    print(f"\nDEL, {TRIALS} trials under load:")
    print(f"  first refused by both, answered after: {figures(refused)}")
    print(f"  last let pass by either, sent after:   {figures(passed)}")
    assert statistics.quantiles(passed, n=100)[98] < GOAL_SECONDS


@contextmanager
def watched(proxies: list[ProxyProcess], tokens: list[Token]) -> Iterator[list[Witness]]:
    """Watch each token at one sidecar, alternating between them; print what was seen."""
    with ExitStack() as stack:
        watching = [
            stack.enter_context(Witness(proxy, token.secret, 0.02))
            for token, proxy in zip(tokens, cycle(proxies), strict=False)
        ]
        yield watching
    counts = Counter(seen.status for witness in watching for seen in witness.seen)
    outages = [outage_of(witness) for witness in watching]
    print(f"\nanswers: {dict(counts)}; the longest outage of a token: {max(outages):.2f} s")
    assert set(counts) <= {200, 503}, "a good token was refused"


def outage_of(witness: Witness) -> float:
    """Return the longest time (seconds) between two successes of a token."""
    passed = [seen.answered_at for seen in witness.seen if seen.status == 200]
    refused = any(seen.status != 200 for seen in witness.seen)
    gaps = (later - earlier for earlier, later in pairwise(passed))
    return max(gaps) if refused else 0.0


def wait_until_all_pass(watching: list[Witness]) -> None:
    deadline = time.monotonic() + HEALED_SECONDS
    while not all(witness.has_seen(200, times=20) for witness in watching):
        assert time.monotonic() < deadline, "it does not heal"
        time.sleep(0.05)


@pytest.mark.parametrize("grace", ["0s", "30s"])
@pytest.mark.parametrize("fate", [RedisServer.kill, RedisServer.pause], ids=["killed", "stopped"])
def test_a_lost_master_costs_seconds_and_no_good_token(
    fate: Callable[[RedisServer], None], grace: str, stage: Stage, upstream: str, tmp_path: Path
) -> None:
    tokens = make_tokens(stage, 24)
    settings = settings_for(stage.url, upstream, tmp_path)
    settings["store"]["outage_grace"] = grace
    victim = stage.master_of(tokens[0].key)
    with (
        running_proxies(tmp_path, settings) as proxies,
        loaded(proxies, tokens[0]),
        watched(proxies, tokens) as watching,
    ):
        wait_until_all_pass(watching)
        fate(victim)
        time.sleep(8)
        wait_until_all_pass(watching)
        if fate is RedisServer.pause:
            victim.resume()
            time.sleep(10)
        assert stage.master_of(tokens[0].key) is not victim
        wait_until_all_pass(watching)


def test_slots_that_move_under_load_cost_nothing(
    cluster: ClusterOfServers, upstream: str, tmp_path: Path
) -> None:
    """Each slot moves once around all masters, key by key, while its tokens are in use."""
    tokens = make_tokens(Stage(cluster.url, cluster.master_of), 24)
    settings = settings_for(cluster.url, upstream, tmp_path)
    settings["store"] |= {"outage_grace": "0s"}
    with (
        running_proxies(tmp_path, settings) as proxies,
        loaded(proxies, tokens[0]),
        watched(proxies, tokens) as watching,
    ):
        wait_until_all_pass(watching)
        for token in tokens:
            place = cluster.masters.index(cluster.master_of(token.key))
            for step in range(3):
                source, target = (cluster.masters[(place + step + n) % 3] for n in (0, 1))
                cluster.migrate(key_slot(token.key.encode()), source, target, 0.02)
        wait_until_all_pass(watching)
    seen = Counter(one.status for witness in watching for one in witness.seen)
    assert seen[503] < seen[200] / 100
