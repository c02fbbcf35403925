"""The rules of reloading, on real files, with changes that are recorded in place of applied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from sidecar.config.load import load
from sidecar.core.errors import UsageError
from sidecar.proxy.rules import Rules
from sidecar.runtime.reload import Change, Commit, Reloader

GOOD = """\
upstreams: {listener: {url: "http://127.0.0.1:1"}}
routes: [{path: /x}]
"""
CHECK_SECONDS = 0.01
RULES = cast(Rules, object())


class Bench:
    """A file, its reloader, and the changes that the reloader has found."""

    def __init__(self, directory: Path, more: str = "", **options: Any) -> None:
        self.file = directory / "sidecar.yaml"
        if not self.file.exists():
            self.file.write_text(GOOD + more)
        self.environ = {"REALM": "listener"}
        settings = load(self.file, self.environ)
        self.reloader = Reloader(
            self.file, settings, self.environ, check_seconds=CHECK_SECONDS, **options
        )
        self.changes: list[Change] = []
        self.committed = 0
        self.fault: Exception | None = None

    def prepare(self, change: Change) -> Commit:
        self.changes.append(change)
        if self.fault is not None:
            raise self.fault
        return self.commit

    def commit(self) -> Rules:
        self.committed += 1
        return RULES

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self.reloader.watch(self.prepare))
        try:
            yield
        finally:
            watching.cancel()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():
                await asyncio.sleep(CHECK_SECONDS / 2)

    async def generation(self, number: int) -> None:
        await self.until(lambda: self.reloader.state.generation == number)

    async def invalid(self) -> None:
        await self.until(lambda: not self.reloader.state.is_valid)

    async def checks(self, number: int = 5) -> None:
        """Wait for a few checks of the files."""
        await asyncio.sleep(CHECK_SECONDS * 2 * number)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_change_of_the_file_is_applied_and_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with bench.watched():
        bench.file.write_text(GOOD + "credentials: {realm: other}\n")
        await bench.generation(2)
    assert bench.reloader.settings.credentials.realm == "other"
    assert "configuration: credentials.realm: listener -> other" in caplog.messages


async def test_an_untouched_file_is_never_read_again(bench: Bench) -> None:
    async with bench.watched():
        await bench.checks()
    assert bench.changes == []


async def test_a_requested_reload_logs_that_nothing_has_changed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with bench.watched():
        bench.reloader.ask()
        await bench.until(lambda: "nothing changed" in caplog.text)
    assert bench.reloader.state.generation == 1


async def test_read_now_returns_once_the_file_is_applied_or_refused(bench: Bench) -> None:
    async with bench.watched():
        bench.file.write_text(GOOD + "credentials: {realm: other}\n")
        await asyncio.wait_for(bench.reloader.read_now(), 10)
        assert bench.reloader.settings.credentials.realm == "other"
        bench.file.write_text("nonsense")
        await asyncio.wait_for(bench.reloader.read_now(), 10)
        assert not bench.reloader.state.is_valid


async def test_a_later_worker_continues_the_counts_and_leaves_details_to_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts under the configuration then in force; one worker logs what all of them see."""
    caplog.set_level(logging.INFO)
    bench = Bench(tmp_path, generation=7, refused=2, logs_details=False)
    async with bench.watched():
        bench.file.write_text(GOOD + "credentials: {realm: other}\n")
        await bench.generation(8)
        assert caplog.messages == []
        bench.file.write_text("nonsense")
        await bench.invalid()
    assert bench.reloader.state.refused == 3
    (told,) = caplog.messages
    assert told.endswith("not reloaded: generation 8 stays in force")


async def test_an_invalid_file_changes_nothing_and_is_logged_once_line_by_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench.watched():
        bench.file.write_text(GOOD + "colour: red\nworkers: none\n")
        await bench.invalid()
        await bench.checks()
    assert (bench.changes, bench.reloader.state.refused) == ([], 1)
    assert [problem.split(": ")[0] for problem in bench.reloader.state.problems] == [
        f"{bench.file}:3:1",
        f"{bench.file}:4:10",
    ]
    assert f"configuration: {bench.reloader.state.problems[0]}" in caplog.messages


async def test_a_file_that_is_restored_is_valid_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with bench.watched():
        bench.file.write_text("")
        await bench.invalid()
        bench.file.write_text(GOOD)
        await bench.until(lambda: bench.reloader.state.is_valid)
    assert bench.reloader.state.generation == 1
    assert "is valid again" in caplog.text


async def test_a_missing_file_is_a_problem_until_it_returns(bench: Bench) -> None:
    async with bench.watched():
        bench.file.unlink()
        await bench.invalid()
        bench.file.write_text(GOOD + "workers: 2\n")
        await bench.generation(2)
    assert bench.reloader.state.needs_restart == ("workers",)


async def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.watched():
        bench.file.write_text("")
        for letter in GOOD + "credentials: {realm: other}\n":
            with bench.file.open("a") as file:
                file.write(letter)
            await asyncio.sleep(CHECK_SECONDS / 5)
        await bench.generation(2)
    assert bench.reloader.state.refused == 0


async def test_a_change_of_a_substituted_file_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "realm").write_text("one")
    bench = Bench(tmp_path, 'credentials: {realm: "${file:realm}"}\n')
    async with bench.watched():
        (tmp_path / "realm").write_text("two")
        await bench.generation(2)
    assert bench.reloader.settings.credentials.realm == "two"


async def test_a_configuration_is_read_again_once_a_missing_file_appears(bench: Bench) -> None:
    async with bench.watched():
        bench.file.write_text(GOOD + 'credentials: {realm: "${file:realm}"}\n')
        await bench.invalid()
        (bench.file.parent / "realm").write_text("two")
        await bench.generation(2)


async def test_the_swap_of_a_symbolic_link_to_a_directory_is_a_change(tmp_path: Path) -> None:
    """As the kubelet does it: ``sidecar.yaml -> ..data/sidecar.yaml``, ``..data -> ..1``."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        text = GOOD + f"credentials: {{realm: r{number}}}\n"
        (tmp_path / f"..{number}" / "sidecar.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "sidecar.yaml").symlink_to("..data/sidecar.yaml")
    bench = Bench(tmp_path)
    async with bench.watched():
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await bench.generation(2)
    assert bench.reloader.settings.credentials.realm == "r2"


async def test_a_change_that_cannot_be_prepared_leaves_the_old_configuration_in_force(
    bench: Bench,
) -> None:
    bench.fault = UsageError("the access log can't be opened")
    async with bench.watched():
        bench.file.write_text(GOOD + "credentials: {realm: other}\n")
        await bench.invalid()
    assert bench.reloader.settings.credentials.realm == "listener"
    assert bench.reloader.state.problems == (f"{bench.file}: the access log can't be opened",)
    assert bench.committed == 0


async def test_an_unexpected_error_is_logged_without_its_message_and_the_watch_continues(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.fault = RuntimeError("hunter2")
    async with bench.watched():
        bench.file.write_text(GOOD + "credentials: {realm: other}\n")
        await bench.invalid()
        bench.fault = None
        bench.reloader.ask()
        await bench.generation(2)
    assert "RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_every_callback_gets_the_new_rules(bench: Bench) -> None:
    told: list[Rules] = []

    def fail(rules: Rules) -> None:
        raise RuntimeError

    bench.reloader.on_applied += [fail, told.append]
    async with bench.watched():
        for number in (2, 3):
            bench.file.write_text(GOOD + f"credentials: {{realm: r{number}}}\n")
            await bench.generation(number)
            await bench.until(lambda count=number - 1: len(told) == count)  # type: ignore[misc]
    assert told == [RULES, RULES]


async def test_a_change_made_before_the_watch_began_is_noticed(tmp_path: Path) -> None:
    """No change between reading the settings and watching is lost."""
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD)
    settings = load(file, {})
    file.write_text(GOOD + "credentials: {realm: other}\n")
    bench = Bench(tmp_path)
    bench.reloader = Reloader(file, settings, {}, check_seconds=CHECK_SECONDS)
    async with bench.watched():
        await bench.generation(2)


async def test_the_state_is_described_in_values_for_json(bench: Bench) -> None:
    described = bench.reloader.state.describe()
    assert str(described.pop("loaded_at")).endswith("+00:00")
    assert described == {"valid": True, "problems": [], "generation": 1, "needs_restart": []}


async def test_what_is_probably_not_meant_is_logged_with_each_reload(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench.watched():
        bench.file.write_text(GOOD + "portal: {address: '0.0.0.0:2021'}\n")
        await bench.generation(2)
    (told,) = [record for record in caplog.records if "every address" in record.getMessage()]
    assert told.levelname == "WARNING"
    assert f"configuration: {bench.file}:3:19: portal.address: " in told.getMessage()
