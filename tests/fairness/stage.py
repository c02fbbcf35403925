"""The stage of an attack: Redis, a service, the proxy, an honest caller and an attacker, apart.

Every part is a process of its own. Where there is more than one core, the proxy has one to itself
and all others share the rest, the attacker at the lowest priority of them: what is measured is then
whom the proxy serves, not whom the machine gives its time to.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.witness import Token, make_token, put, trial
from tests.fairness.attacker import Account
from tests.fairness.attacks import Attack
from tests.fairness.honest import HEALTH, KEPT, NEW, Figures, Testimony
from tests.integration.test_reload import write_certificate
from tests.proxy_process import ROOT, ProxyProcess, free_port
from tests.redis_servers import RedisServer

REST_SECONDS = 4.0
CALM_SECONDS = 2.0
"""So long after an attack all has to be as before."""
AFTER_SECONDS = 2.0
"""So long it is looked at then."""
LATE_SECONDS = 60.0
"""An attacker that has not ended so long after its time is lost."""
_FEW_DESCRIPTORS = 1000

TLS = {"tls": {"certificate": "tls.crt", "private_key": "tls.key"}}
HASTY = {"header_timeout": "1s", "body_timeout": "1s"}

LISTEN: dict[str, Mapping[str, Any]] = {"tls": TLS, "tls, 20": TLS, "tls, 64 each": TLS}
LIMITS: dict[str, Mapping[str, Any]] = {
    "hasty": HASTY,
    "tls, 20": {"connections": 20},
    "tls, 64 each": {"connections_per_address": 64},
}
STAGES = ("plain", "hasty", "tls", "tls, 20", "tls, 64 each", "few descriptors")
"""Each is as the proxy comes, but for what ``LISTEN`` and ``LIMITS`` say of it."""


@dataclass(frozen=True, slots=True)
class Played:
    """What an attack did to the others."""

    attack: Attack
    account: Account
    rest: dict[str, Figures]
    during: dict[str, Figures]
    after: dict[str, Figures]
    """From ``CALM_SECONDS`` after its end on."""
    log: str
    """What the proxy wrote on standard error meanwhile."""
    has_same_worker: bool
    most_bytes: int
    """Resident memory of the worker at its highest."""
    store_unavailable: int
    """How many answers said so."""
    notes: tuple[str, ...] = ()
    """What went wrong with what happened along with it."""


class Service:
    """The service's process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.fairness.service"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.pid = self._process.pid

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Honest:
    """The honest process; ``end`` returns what it saw."""

    def __init__(self, stage: Stage) -> None:
        command = [sys.executable, "-m", "tests.fairness.honest", str(stage.proxy.port)]
        command += [str(stage.operations_port), stage.honest.secret]
        self._process = subprocess.Popen(
            [*command, "tls"] if stage.is_tls else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def end(self) -> Testimony:
        output, _ = self._process.communicate(timeout=90)
        return Testimony.read(output)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Along:
    """What else happens during an attack, by name; each returns what went wrong."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self._stage = stage
        self._seconds = seconds

    def nothing(self) -> list[str]:
        return []

    def revoke(self) -> list[str]:
        """Revoke tokens in use: each is refused within 250 ms."""
        wrong = []
        for _ in range(3):
            time.sleep(self._seconds / 5)
            token = make_token("acme")
            put(self._stage.redis, token)
            revoke = partial(self._stage.redis.command, "DEL", token.key)
            try:
                effect = trial([self._stage.proxy], token, revoke, pause_seconds=0.01)
            except AssertionError as error:
                wrong.append(f"a new token was not let in, and then refused: {error}")
                continue
            if effect.last_pass_seconds > 0.25:
                wrong.append(f"a revoked token passed for {effect.last_pass_seconds:.2f} s")
        return wrong

    def client_kill(self) -> list[str]:
        """Have Redis close its clients' connections, in the middle."""
        time.sleep(self._seconds / 2)
        for kind in ("normal", "pubsub"):
            self._stage.redis.command("CLIENT", "KILL", "TYPE", kind)
        return []

    def two_outages(self) -> list[str]:
        """Take Redis away, back for a second, and away again; a token that rested has its grace."""
        token, redis = make_token("acme"), self._stage.redis
        put(redis, token)
        wrong = [f"a good token at rest: {self._ask(token)} at first"] * (self._ask(token) != 200)
        for away, back in ((10.0, 1.0), (20.0, 0.0)):
            redis.pause()
            time.sleep(away)
            if back:
                redis.resume()
                time.sleep(back)
        if (status := self._ask(token)) != 200:
            wrong.append(f"a token that rested in between: {status} after 20 s of another outage")
        redis.resume()
        return wrong

    def _ask(self, token: Token) -> int:
        url = f"http://127.0.0.1:{self._stage.proxy.port}/v1/dynamic/listener/rested"
        asking = urllib.request.Request(url, headers={"access_token": token.secret})
        try:
            with urllib.request.urlopen(asking, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


class Stage:
    """One proxy, in one of ``STAGES``, with all around it."""

    def __init__(self, name: str, redis: RedisServer, service: Service, directory: Path) -> None:
        self.name = name
        self.redis = redis
        self.is_tls = name in LISTEN
        self.honest = make_token("honest")
        self.attackers = make_token("attacker")
        put(redis, self.honest, self.attackers)
        if self.is_tls:
            write_certificate(directory, "sidecar.test")
        self.proxy = ProxyProcess(directory, _settings(name, redis, service.url))
        self._service = service

    @property
    def operations_port(self) -> int:
        return int(self.proxy.settings["operations"]["address"].rpartition(":")[2])

    def start(self) -> None:
        self.proxy.start()
        _share_cores([self.proxy.pid, *self.proxy.workers()], [self._service.pid, self.redis.pid])
        if self.name == "few descriptors":
            few = (_FEW_DESCRIPTORS, _FEW_DESCRIPTORS)
            resource.prlimit(self.proxy.worker, resource.RLIMIT_NOFILE, few)

    def stop(self) -> None:
        self.redis.resume()
        if self.proxy.is_running:
            self.proxy.signal(signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                self.proxy.wait()

    def play(self, attack: Attack, seconds: float | None = None) -> Played:
        """Measure at rest, under attack, and after it."""
        seconds = seconds or attack.seconds
        workers, logged = self.proxy.workers(), len(self.proxy.stderr)
        unavailable = self._unavailable()
        _forget_peak(workers)
        with ExitStack() as stack:
            honest = Honest(self)
            stack.callback(honest.kill)
            time.sleep(0.5)  # until it is at work
            rested = time.monotonic()
            time.sleep(REST_SECONDS)
            account, notes = self._attack(attack, seconds)
            time.sleep(CALM_SECONDS + AFTER_SECONDS)
            testimony = honest.end()
        calm = account.ended + CALM_SECONDS
        spans = ((rested, account.began), (account.began, account.ended), (calm, time.monotonic()))
        rest, during, after = (
            {asker: testimony.between(asker, *span) for asker in (KEPT, NEW, HEALTH)}
            for span in spans
        )
        return Played(
            attack=attack,
            account=account,
            rest=rest,
            during=during,
            after=after,
            log=self.proxy.stderr[logged:],
            has_same_worker=self.proxy.workers() == workers,
            most_bytes=peak_bytes(self.proxy.workers()),
            store_unavailable=self._unavailable() - unavailable,
            notes=tuple(notes),
        )

    def _attack(self, attack: Attack, seconds: float) -> tuple[Account, list[str]]:
        command = [sys.executable, "-m", "tests.fairness.attacker", attack.name]
        command += [str(self.proxy.port), self.attackers.secret, str(seconds)]
        along: Callable[[], list[str]] = getattr(Along(self, seconds), attack.along or "nothing")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline(), "the attacker did not begin"
                notes = along()
                output, _ = process.communicate(timeout=seconds + LATE_SECONDS)
            finally:
                process.kill()
        return Account.read(output.splitlines()[-1]), notes

    def _unavailable(self) -> int:
        url = f"http://127.0.0.1:{self.operations_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as page:
            lines = page.read().decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in lines
            if line.startswith("sidecar_denials_total{") and 'code="store_unavailable"' in line
        )


def _settings(name: str, redis: RedisServer, upstream: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "upstreams": {"listener": {"url": upstream}},
        "routes": [
            {"path": "/public/**", "public": True},
            {"path": "/v1/dynamic/listener/**"},
        ],
        "accounts": {"honest": {}, "attacker": {}, "acme": {}},
        "store": {"url": redis.unix_url},
        "drain": {"timeout": "1s"},
        "access_log": {"path": os.devnull},
    }
    if name in LIMITS:
        settings["limits"] = dict(LIMITS[name])
    if name in LISTEN:
        settings["listen"] = {"address": f"127.0.0.1:{free_port()}", **LISTEN[name]}
    return settings


def _share_cores(proxy: list[int], others: list[int]) -> None:
    """Give the proxy a core, and this process, its children and the others the rest."""
    cores = sorted(os.sched_getaffinity(0) | _given_away)
    if len(cores) < 2:
        return
    _given_away.add(cores[-1])
    for pid in proxy:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cores[-1]})
    for pid in (os.getpid(), *others):
        os.sched_setaffinity(pid, set(cores[:-1]))


_given_away: set[int] = set()


def _forget_peak(pids: list[int]) -> None:
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pids: list[int]) -> int:
    """Return the most resident memory that one of them has had since it was forgotten."""
    return max(_status_bytes(pid, "VmHWM") for pid in pids)


def _status_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {name}")


@contextmanager
def running_stage(
    name: str, redis: RedisServer, service: Service, directory: Path
) -> Iterator[Stage]:
    """Run a stage for as long as the block lasts."""
    stage = Stage(name, redis, service, directory)
    try:
        stage.start()
        yield stage
    finally:
        stage.stop()
