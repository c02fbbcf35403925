"""The throttle of several processes on a real Redis: shared, healed, cleared by the admin."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.auth.throttle import Throttle, ThrottleLimits
from sidecar.cli.main import main
from sidecar.observability.audit import AuditLog
from sidecar.store.counters import connect_counters
from sidecar.store.redis import connect
from sidecar.tokens.last_use import LastUses
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS, PATIENCE_SECONDS
from tests.redis_servers import RedisServer, binary_of, running_redis

HERE, THERE = "192.0.2.1", "2001:db8::1"
LIMITS = ThrottleLimits(failures=10, window_seconds=60, ban_seconds=300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(binary_of("debian"), tmp_path) as running:
        yield running


class Process:
    """One process's throttle, running, and the audit lines of its bans."""

    def __init__(self, url: str, limits: ThrottleLimits) -> None:
        self.lines: list[dict[str, Any]] = []
        audit = AuditLog(lambda line, _: self.lines.append(json.loads(line)), {"acme"}.__contains__)
        self.throttle = Throttle(connect_counters(url, prefix="sidecar:"), limits, audit.ban_set)
        self._task = asyncio.create_task(self.throttle.run())

    async def stop(self) -> None:
        while not self._task.done():  # asyncio.wait_for of 3.11, in redis-py, may lose a cancel
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1)
        await self.throttle.close()


@pytest.fixture(autouse=True)
def _learning_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn of others' failures sooner than in earnest: nothing here depends on how soon."""
    monkeypatch.setattr("sidecar.auth.throttle.LEARN_SECONDS", 0.3)


@pytest.fixture
async def processes(server: RedisServer) -> AsyncIterator[list[Process]]:
    made = [Process(server.url, LIMITS) for _ in range(3)]
    yield made
    for process in made:
        await process.stop()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; fails if it does not become so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        await asyncio.sleep(0.01)


async def test_failures_that_any_process_sees_ban_in_every_process(
    processes: list[Process],
) -> None:
    for number in range(10):
        processes[number % 3].throttle.note_failure(f"198.51.100.{number}", "acme")
        await asyncio.sleep(0.05)
    await until(lambda: all(p.throttle.check(HERE, "acme") for p in processes))
    assert all(p.throttle.check(HERE) is None for p in processes)
    lines = [line for process in processes for line in process.lines]
    assert [(line["event"], line["account"]) for line in lines] == [("ban_set", "acme")]


async def test_a_ban_ends_by_itself_in_every_process(server: RedisServer) -> None:
    limits = ThrottleLimits(failures=2, window_seconds=60, ban_seconds=2)
    made = [Process(server.url, limits) for _ in range(2)]
    for _ in range(2):
        made[0].throttle.note_failure(HERE)
    await until(lambda: all(p.throttle.check(HERE) is not None for p in made))
    await until(lambda: all(p.throttle.check(HERE) is None for p in made))
    for process in made:
        await process.stop()


async def test_bans_made_while_redis_was_gone_are_shared_once_it_is_back(
    server: RedisServer, processes: list[Process]
) -> None:
    processes[0].throttle.note_failure(HERE)
    await asyncio.sleep(0.1)
    server.kill()
    for _ in range(10):
        processes[0].throttle.note_failure(HERE)
    assert processes[0].throttle.check(HERE) == 300
    assert processes[1].throttle.check(HERE) is None
    await until(lambda: bool(processes[0].lines))
    server.start()
    await until(lambda: all(p.throttle.check(HERE) for p in processes))
    assert sum(len(process.lines) for process in processes) == 1


async def test_everything_goes_on_after_a_flush(
    server: RedisServer, processes: list[Process]
) -> None:
    for _ in range(10):
        processes[0].throttle.note_failure(HERE)
    await until(lambda: all(p.throttle.check(HERE) for p in processes))
    server.command("FLUSHALL")
    await until(lambda: not any(p.throttle.check(HERE) for p in processes))
    for _ in range(10):
        processes[1].throttle.note_failure(HERE)
    await until(lambda: all(p.throttle.check(HERE) for p in processes))


async def test_last_uses_reach_the_store(server: RedisServer) -> None:
    store = connect(server.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
    record = make_record()
    await store.create(record)
    uses = LastUses(store.record_use, interval_seconds=0.01)
    task = asyncio.create_task(uses.run())
    uses.note(record.digest, HERE)
    while not (found := await store.last_uses([record])):
        await asyncio.sleep(0.01)
    assert found[record.digest].client == HERE
    task.cancel()
    await uses.close()
    await store.close()


# The command.


class Admin:
    """A configuration on a Redis, and the commands that an admin runs with it."""

    def __init__(self, directory: Path, server: RedisServer, output: Any) -> None:
        self.log = directory / "access.log"
        self.log.touch()
        self.config = directory / "sidecar.yaml"
        self._output = output
        settings = {
            "upstreams": {"listener": {"url": "http://127.0.0.1:1"}},
            "routes": [{"path": "/v1/{id}"}],
            "accounts": {"acme": {}},
            "store": {"url": server.unix_url},
            "access_log": {"path": str(self.log)},
        }
        self.config.write_text(yaml.safe_dump(settings))

    async def run(self, *words: str) -> tuple[int, str, str]:
        asked = ["throttle", *words, "--config", str(self.config)]
        status = await asyncio.to_thread(main, asked)
        out, err = self._output.readouterr()
        return status, out, err

    async def json(self, *words: str) -> Any:
        status, out, err = await self.run(*words, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def admin(tmp_path: Path, server: RedisServer, capsys: pytest.CaptureFixture[str]) -> Admin:
    return Admin(tmp_path, server, capsys)


async def ban(processes: list[Process]) -> None:
    """Ban an address, an account and a name that is no account's."""
    for number in range(10):
        processes[0].throttle.note_failure(THERE)
        processes[0].throttle.note_failure(f"198.51.100.{number}", "acme")
        processes[0].throttle.note_failure(f"198.51.100.{number}", "hunter2")
    await until(lambda: all(p.throttle.check(THERE) for p in processes))


async def test_the_list_shows_who_is_banned_and_no_name_that_is_no_accounts(
    admin: Admin, processes: list[Process]
) -> None:
    assert await admin.json("list") == []
    await ban(processes)
    bans = await admin.json("list")
    assert sorted((b["client"] or "", b["account"] or "") for b in bans) == [
        ("", ""),
        ("", "acme"),
        ("2001:db8::/64", ""),
    ]
    assert all(0 < b["seconds_left"] <= 300 and b["banned_until"].endswith("Z") for b in bans)
    _, out, _ = await admin.run("list")
    assert "2001:db8::/64" in out
    assert "hunter2" not in out


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--client", "2001:db8::ffff"], 1),
        (["--client", "2001:db8::/64"], 1),
        (["--account", "acme"], 1),
        (["--account", "hunter2"], 1),
        (["--client", "2001:db8::1", "--account", "acme"], 2),
        (["--all"], 3),
    ],
)
async def test_clear_ends_what_is_asked_for_in_every_process_and_is_audited(
    admin: Admin, processes: list[Process], words: list[str], count: int
) -> None:
    await ban(processes)
    cleared = await admin.json("clear", *words)
    assert len(cleared) == count
    assert len(await admin.json("list")) == 3 - count
    subjects = [(THERE, None), (HERE, "acme"), (HERE, "hunter2")]
    await until(
        lambda: all(
            sum(p.throttle.check(*subject) is None for subject in subjects) == count
            for p in processes
        )
    )
    lines = [json.loads(line) for line in admin.log.read_text().splitlines()]
    assert [(line["event"], line["actor"]) for line in lines] == [("ban_cleared", "cli")] * count


async def test_clearing_what_is_not_banned_says_so_and_is_no_failure(admin: Admin) -> None:
    told = await admin.run("clear", "--client", HERE)
    assert told == (0, "", "no matching ban or failure count was found\n")


async def test_an_empty_list_of_bans_says_so_beside_the_output(admin: Admin) -> None:
    assert await admin.run("list") == (0, "", "nobody is banned\n")


@pytest.mark.parametrize("words", [[], ["--all", "--account", "acme"], ["--client", "acme"]])
async def test_clear_must_know_whom(admin: Admin, words: list[str]) -> None:
    status, out, _ = await admin.run("clear", *words)
    assert (status, out) == (2, "")
