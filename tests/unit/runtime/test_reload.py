"""The rules of reloading, on real files and with a gateway that only remembers what it was told."""

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
    """A file, its reloader, and what was made of each change."""

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

    async def looks(self, number: int = 5) -> None:
        """Let the watcher look a few times."""
        await asyncio.sleep(CHECK_SECONDS * 2 * number)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_change_of_the_file_is_applied_and_told(
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
        await bench.looks()
    assert bench.changes == []


async def test_asking_reads_at_once_and_says_so_when_nothing_changed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with bench.watched():
        bench.reloader.ask()
        await bench.until(lambda: "nothing changed" in caplog.text)
    assert bench.reloader.state.generation == 1


async def test_who_waits_for_a_reading_goes_on_once_it_is_applied_or_refused(bench: Bench) -> None:
    async with bench.watched():
        bench.file.write_text(GOOD + "credentials: {realm: other}\n")
        await asyncio.wait_for(bench.reloader.read_now(), 10)
        assert bench.reloader.settings.credentials.realm == "other"
        bench.file.write_text("nonsense")
        await asyncio.wait_for(bench.reloader.read_now(), 10)
        assert not bench.reloader.state.is_valid


async def test_a_worker_that_joins_later_counts_on_and_leaves_the_telling_to_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts under the configuration of the day; what all meet is told by one."""
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


async def test_a_bad_file_changes_nothing_and_is_told_once_line_by_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench.watched():
        bench.file.write_text(GOOD + "colour: red\nworkers: none\n")
        await bench.invalid()
        await bench.looks()
    assert (bench.changes, bench.reloader.state.refused) == ([], 1)
    assert [problem.split(": ")[0] for problem in bench.reloader.state.problems] == [
        f"{bench.file}:3:1",
        f"{bench.file}:4:10",
    ]
    assert f"configuration: {bench.reloader.state.problems[0]}" in caplog.messages


async def test_a_file_that_is_as_before_again_is_valid_again(
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


async def test_a_file_that_is_gone_is_a_problem_and_its_return_is_noticed(bench: Bench) -> None:
    async with bench.watched():
        bench.file.unlink()
        await bench.invalid()
        bench.file.write_text(GOOD + "workers: 2\n")
        await bench.generation(2)
    assert bench.reloader.state.needs_restart == ("workers",)


async def test_a_file_that_still_grows_is_not_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.watched():
        bench.file.write_text("")
        for letter in GOOD + "credentials: {realm: other}\n":
            with bench.file.open("a") as file:
                file.write(letter)
            await asyncio.sleep(CHECK_SECONDS / 5)
        await bench.generation(2)
    assert bench.reloader.state.refused == 0


async def test_a_substituted_file_counts_like_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "realm").write_text("one")
    bench = Bench(tmp_path, 'credentials: {realm: "${file:realm}"}\n')
    async with bench.watched():
        (tmp_path / "realm").write_text("two")
        await bench.generation(2)
    assert bench.reloader.settings.credentials.realm == "two"


async def test_the_file_that_a_bad_configuration_lacks_makes_it_good(bench: Bench) -> None:
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


async def test_what_cannot_be_prepared_leaves_the_old_one_in_force(bench: Bench) -> None:
    bench.fault = UsageError("the access log can't be opened")
    async with bench.watched():
        bench.file.write_text(GOOD + "credentials: {realm: other}\n")
        await bench.invalid()
    assert bench.reloader.settings.credentials.realm == "listener"
    assert bench.reloader.state.problems == (f"{bench.file}: the access log can't be opened",)
    assert bench.committed == 0


async def test_an_unforeseen_fault_is_told_without_its_words_and_the_watch_goes_on(
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


async def test_everybody_who_asked_is_told_of_the_new_rules(bench: Bench) -> None:
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


async def test_a_file_that_changed_before_the_watch_began_is_noticed(tmp_path: Path) -> None:
    """Between reading the settings and watching, nothing is lost."""
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD)
    settings = load(file, {})
    file.write_text(GOOD + "credentials: {realm: other}\n")
    bench = Bench(tmp_path)
    bench.reloader = Reloader(file, settings, {}, check_seconds=CHECK_SECONDS)
    async with bench.watched():
        await bench.generation(2)


async def test_the_state_is_described_as_json_has_it(bench: Bench) -> None:
    described = bench.reloader.state.describe()
    assert str(described.pop("loaded_at")).endswith("+00:00")
    assert described == {"valid": True, "problems": [], "generation": 1, "needs_restart": []}
