"""B8: a hundred wrong passwords a second from fifty addresses, and how honest tokens fare."""

from __future__ import annotations

import base64
import http.client
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sidecar.proxy import gateway
from tests.e2e.witness import Token, make_token, put, running_proxies
from tests.proxy_process import ROOT, ProxyProcess
from tests.redis_servers import RedisServer
from tests.soak.conftest import PASSWORD, name_of, settings_for

ADDRESSES = 50
GUESSES_A_SECOND = 100
ROUND_SECONDS = 6
ROUNDS = 9
WARM_UP_SECONDS = 1
CONNECTIONS = 8
IS_COMPILED = not gateway.__file__.endswith(".py")
MOST_RATIO = 1.5 if IS_COMPILED else 2.0  # an interpreter misses more of what a hash drives out
FAILURES = 10
ALL_BANNED_SECONDS = 240  # on the slowest machine; 100 on one with two processors
HONEST_PAUSE_SECONDS = 5
FIRST_SECONDS = 25  # the first waits behind one guess from each address

pytestmark = pytest.mark.soak


class Flood:
    """A process that guesses passwords of this many accounts from as many addresses.

    ``network`` gives each flood its own addresses, so that none is banned yet.
    """

    def __init__(self, proxy: ProxyProcess, network: int = 0) -> None:
        program = Path(__file__).with_name("guesser.py")
        first = network * ADDRESSES
        numbers = map(str, (proxy.port, first, ADDRESSES, GUESSES_A_SECOND))
        self._process = subprocess.Popen(
            [sys.executable, "-IS", str(program), *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[tuple[float, str, int]]:
        """Return for each answered guess when it was sent (seconds), the address and the status."""
        output, _ = self._process.communicate()
        lines = (line.split() for line in output.splitlines())
        return [(float(seconds), address, int(status)) for seconds, address, status in lines]


def p99_us(
    proxy: ProxyProcess, token: Token, pause_ms: float, seconds: int = ROUND_SECONDS
) -> tuple[float, int]:
    """Return the 99th percentile and the number of honest calls in one round."""
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"),
            *("-s", str(ROOT / "benchmarks" / "wrk.lua"), "-H", f"access_token: {token.secret}"),
            *(f"http://127.0.0.1:{proxy.port}/v1/dynamic/listener/a1", "--"),
            f"pause_ms={pause_ms}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"bench: requests=(\d+) .* p99_us=(\d+) refused=0 ", done.stdout)
    assert found, done.stdout
    return float(found[2]), int(found[1])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("pause_ms", "failures"),
    [(10.0, FAILURES), (10.0, 0), (0.0, FAILURES)],
    ids=["steady", "steady, and nobody is banned", "as fast as it goes"],
)
def test_a_flood_of_wrong_passwords_leaves_honest_tokens_alone(
    pause_ms: float, failures: int, redis: RedisServer, upstream: str, tmp_path: Path
) -> None:
    """Rounds with and without the flood alternate, so that other load affects both equally.

    Each flood meets a proxy that has seen no failures yet, which is when it costs most.
    """
    settings = settings_for(redis, upstream, tmp_path, accounts=ADDRESSES * ROUNDS)
    settings["throttle"] = {"failures": failures, "window": "1m", "ban": "5m"}
    settings["drain"] = {"timeout": "1s"}  # guesses are queued; no honest caller waits for them
    settings["trusted_proxies"] = ["127.0.0.1/32"]
    token = make_token(name_of(0))
    put(redis, token)
    quiet, flooded, calls, statuses = [], [], 0, Counter[int]()
    for number in range(ROUNDS):
        directory = tmp_path / f"round-{number}"
        directory.mkdir()
        with running_proxies(directory, settings, 1) as (proxy,):
            p99_us(proxy, token, pause_ms, WARM_UP_SECONDS)
            quiet.append(p99_us(proxy, token, pause_ms)[0])
            flood = Flood(proxy, number)
            p99, made = p99_us(proxy, token, pause_ms)
            flooded.append(p99)
            calls += made
            statuses.update(status for _, _, status in flood.end())
    ratio = statistics.median(flooded) / statistics.median(quiet)
    print(f"\np99 without {shown(quiet)}, with {shown(flooded)}: median ratio {ratio:.2f}")
    print(f"{calls} honest calls during the flood; guesses were answered {dict(statuses)}")
    assert set(statuses) <= {401, 429, 503}
    assert sum(statuses.values()) > GUESSES_A_SECOND * ROUND_SECONDS * ROUNDS / 2
    assert ratio < MOST_RATIO


def sign_in(proxy: ProxyProcess, account: str) -> tuple[int, float]:
    """Sign in with the right password from a separate address; return the status and seconds."""
    began = time.monotonic()
    pair = base64.b64encode(f"{account}:{PASSWORD}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    headers = {"Authorization": f"Basic {pair}", "X-Forwarded-For": "203.0.113.7"}
    connection.request("GET", "/v1/dynamic/listener/a1", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status, time.monotonic() - began


@pytest.mark.timeout(600)
def test_a_flood_ends_in_bans_and_lets_honest_passwords_in_meanwhile(
    redis: RedisServer, upstream: str, tmp_path: Path
) -> None:
    """With the default settings; each honest account signs in for the first time."""
    accounts = ADDRESSES + ALL_BANNED_SECONDS // HONEST_PAUSE_SECONDS + 1
    settings = settings_for(redis, upstream, tmp_path, accounts=accounts)
    del settings["throttle"]
    settings["trusted_proxies"] = ["127.0.0.1/32"]
    with running_proxies(tmp_path, settings, 1) as (proxy,):
        flood, took, began = Flood(proxy), list[float](), time.monotonic()
        for number in range(ADDRESSES, accounts):
            time.sleep(HONEST_PAUSE_SECONDS)
            status, seconds = sign_in(proxy, name_of(number))
            assert status == 200
            took.append(seconds)
            if len(bans_of(tmp_path)) == ADDRESSES:
                break
        passed = time.monotonic() - began
        time.sleep(HONEST_PAUSE_SECONDS)
        answers = flood.end()
    print(f"\nall {ADDRESSES} banned after {passed:.0f} s; {Counter(s for _, _, s in answers)}")
    print(f"sign-ins meanwhile took {min(took):.2f} to {max(took):.2f} s")
    assert {s for sent, _, s in answers if sent > passed + 1} == {429}, "answered until the end"
    assert statistics.median(took) < HONEST_PAUSE_SECONDS / 2
    assert max(took) < FIRST_SECONDS


def bans_of(directory: Path) -> set[str]:
    """Return the addresses that were banned according to the audit log."""
    lines = (directory / "access.log").read_text()
    return set(re.findall(r'"event":"ban_set","client":"(198\.18\.[0-9.]+)"', lines))


def shown(microseconds: list[float]) -> str:
    return "/".join(f"{value / 1000:.2f}" for value in microseconds) + " ms"
