"""The stage of an attack: Redis, a service, the proxy, an honest caller and an attacker.

Each is a separate process. With more than one core, the proxy has one to itself and all others
share the rest, the attacker at the lowest priority. So the test measures whom the proxy serves, and
not to whom the kernel gives processor time.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.raw_client import RawClient
from tests.e2e.witness import Token, make_token, put, request
from tests.fairness.attacker import Account
from tests.fairness.attacks import Attack
from tests.fairness.honest import FAILED, HEALTH, KEPT, NEW, Figures, Testimony
from tests.integration.test_reload import write_certificate
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ROOT, ProxyProcess
from tests.redis_servers import RedisServer

REST_SECONDS = 4.0
CALM_SECONDS = 2.0
"""How long after an attack everything must be as before."""
AFTER_SECONDS = 2.0
"""How long the proxy is then observed."""
REVOKED_SECONDS = 0.25
"""How soon a revoked token must be refused."""
WITNESS = "127.2.0.1"
"""The source address of other tokens, in neither the honest caller's nor an attacker's network."""
LATE_SECONDS = 60.0
"""How long after its time an attacker is given up."""
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
"""Default settings, except for those in ``LISTEN`` and ``LIMITS``."""


@dataclass(frozen=True, slots=True)
class Played:
    """How an attack affected others."""

    attack: Attack
    account: Account
    rest: dict[str, Figures]
    during: dict[str, Figures]
    after: dict[str, Figures]
    """From ``CALM_SECONDS`` after its end."""
    log: str
    """What the proxy wrote to standard error meanwhile."""
    has_same_worker: bool
    most_bytes: int
    """Peak resident memory of the worker."""
    store_unavailable: int
    """The number of such answers."""
    notes: tuple[str, ...] = ()
    """What went wrong with the events during the attack."""


class Service:
    """The process of the service."""

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
        output, _ = self._process.communicate(timeout=PATIENCE_SECONDS)
        return Testimony.read(output)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Attacking:
    """A running attacker; ``end`` waits for its end and returns its account.

    It opens a ``share`` (0 to 1) of the attack's connections.
    """

    def __init__(self, stage: Stage, attack: Attack, seconds: float, share: float = 1.0) -> None:
        command = [sys.executable, "-m", "tests.fairness.attacker", attack.name]
        command += [str(stage.proxy.port), stage.attackers.secret, str(seconds), str(share)]
        self._seconds = seconds
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the attacker did not begin"

    def end(self) -> Account:
        output, _ = self._process.communicate(timeout=self._seconds + LATE_SECONDS)
        return Account.read(output.splitlines()[-1])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Along:
    """Events during an attack, by name; each method returns what went wrong."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self._stage = stage
        self._seconds = seconds

    def nothing(self) -> list[str]:
        return []

    def revoke(self) -> list[str]:
        """Revoke tokens that are in use: each must be refused within 250 ms."""
        wrong = []
        for _ in range(3):
            time.sleep(self._seconds / 5)
            token = make_token("acme")
            put(self._stage.redis, token)
            wrong += self._revoke(token)
        return wrong

    def _revoke(self, token: Token) -> list[str]:
        """Use a token, revoke it, and use it until it is refused or the limit is long past."""
        with closing(self._stage.connect(WITNESS)) as sock:
            client = RawClient(sock, REVOKED_SECONDS * 20)
            if (status := _status(client, token)) != 200:
                return [f"a good token in its first use: {status}"]
            self._stage.redis.command("DEL", token.key)
            revoked = asked = time.monotonic()
            while asked - revoked < REVOKED_SECONDS * 8:
                asked = time.monotonic()
                status = _status(client, token)
                if status != 200:
                    return [f"a revoked token: {status}"] * (status != 401)
                if asked - revoked > REVOKED_SECONDS:
                    return [f"a revoked token passed after {asked - revoked:.2f} s"]
                time.sleep(0.01)
        return ["a revoked token still passed"]

    def client_kill(self) -> list[str]:
        """Have Redis close all client connections halfway through."""
        time.sleep(self._seconds / 2)
        for kind in ("normal", "pubsub"):
            self._stage.redis.command("CLIENT", "KILL", "TYPE", kind)
        return []

    def two_outages(self) -> list[str]:
        """Stop Redis, resume it for a second, stop it again; an idle token gets its grace."""
        token, redis = make_token("acme"), self._stage.redis
        put(redis, token)
        wrong = []
        if (status := self._ask(token)) != 200:
            wrong.append(f"a good token at rest: {status} at first")
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
        with closing(self._stage.connect(WITNESS)) as sock:
            return _status(RawClient(sock), token)


def _status(client: RawClient, token: Token) -> int:
    client.send(request(token.secret))
    try:
        answer = client.read_answer()
    except OSError:
        return FAILED
    return answer.status if answer else FAILED


class Stage:
    """A proxy with the settings of one of ``STAGES``, and all around it."""

    def __init__(
        self,
        name: str,
        redis: RedisServer,
        service: Service,
        directory: Path,
        changes: Mapping[str, Any] | None = None,
        *,
        has_core: bool = True,
    ) -> None:
        """``changes`` replace sections of the settings; ``has_core``: the proxy has one alone."""
        self.name = name
        self._has_core = has_core
        self.redis = redis
        self.is_tls = name in LISTEN
        self.honest = make_token("honest")
        self.attackers = make_token("attacker")
        put(redis, self.honest, self.attackers)
        if self.is_tls:
            write_certificate(directory, "sidecar.test")
        self.proxy = ProxyProcess(
            directory, {**settings_of(name, redis, service.url), **(changes or {})}
        )
        self._service = service

    @property
    def operations_port(self) -> int:
        return int(self.proxy.settings["operations"]["address"].rpartition(":")[2])

    def connect(self, source: str) -> socket.socket:
        """Open a connection to the proxy from an address of this machine."""
        return socket.create_connection(("127.0.0.1", self.proxy.port), 20, (source, 0))

    def start(self) -> None:
        self.proxy.start()
        if self._has_core:
            proxy = (self.proxy.pid, *self.proxy.workers())
            _share_cores(proxy, (self._service.pid, self.redis.pid))
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
        """Measure before, during and after an attack."""
        seconds = seconds or attack.seconds
        workers, logged = self.proxy.workers(), len(self.proxy.stderr)
        unavailable = self.unavailable()
        forget_peak(workers)
        with ExitStack() as stack:
            honest = Honest(self)
            stack.callback(honest.kill)
            time.sleep(0.5)  # until it has started
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
            store_unavailable=self.unavailable() - unavailable,
            notes=tuple(notes),
        )

    def _attack(self, attack: Attack, seconds: float) -> tuple[Account, list[str]]:
        along: Callable[[], list[str]] = getattr(Along(self, seconds), attack.along or "nothing")
        attacker = Attacking(self, attack, seconds)
        try:
            notes = along()
            return attacker.end(), notes
        finally:
            attacker.kill()

    def metrics(self) -> list[str]:
        """Return the lines of ``/metrics``."""
        url = f"http://127.0.0.1:{self.operations_port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as page:
            return list(page.read().decode().splitlines())

    def unavailable(self) -> int:
        """Return how many answers said that the store is unavailable."""
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in self.metrics()
            if line.startswith("sidecar_denials_total{") and 'code="store_unavailable"' in line
        )


def settings_of(name: str, redis: RedisServer, upstream: str) -> dict[str, Any]:
    """Return the settings of one of ``STAGES``."""
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


def _share_cores(proxy: Iterable[int], others: Iterable[int]) -> None:
    """Give the proxy a core of its own; this process and all others share the rest."""
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


def forget_peak(pids: list[int]) -> None:
    """Reset what ``peak_bytes`` returns."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pids: list[int]) -> int:
    """Return the peak resident memory of any of them since ``forget_peak``."""
    return max((_status_bytes(pid, "VmHWM") for pid in pids), default=0)


def _status_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {name}")


@contextmanager
def running_stage(
    name: str,
    redis: RedisServer,
    service: Service,
    directory: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    has_core: bool = True,
) -> Iterator[Stage]:
    """Run a stage for the duration of the block; see ``Stage`` for the arguments."""
    stage = Stage(name, redis, service, directory, changes, has_core=has_core)
    try:
        stage.start()
        yield stage
    finally:
        stage.stop()
