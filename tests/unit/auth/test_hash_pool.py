"""The hash processes are real ones: they may die, fail to start, and end with their parent."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import sidecar
from sidecar.auth import hash_pool as module
from sidecar.auth.hash_pool import HashPool, pool_size, verify_in_thread
from sidecar.auth.hash_worker import serve
from sidecar.core.errors import Overloaded
from sidecar.core.passwords import hash_password

PASSWORD = "correct:horse \u20ac"
HASH = hash_password(PASSWORD)


@pytest.fixture
async def processes() -> AsyncIterator[HashPool]:
    processes = HashPool(2)
    yield processes
    await processes.close()


def pids(processes: HashPool) -> list[int]:
    return [hasher.process.pid for hasher in processes._alive]


async def test_one_process_answers_one_after_another(processes: HashPool) -> None:
    assert not pids(processes), "who never asks has none"
    answers = [await processes.verify(each, HASH) for each in (PASSWORD, "wrong", "", PASSWORD)]
    assert answers == [True, False, False, True]
    (pid,) = pids(processes)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists() and group.read_text():
        assert group.read_text().rstrip().endswith("nice 19")
    assert "sidecar.auth.hash_worker" in Path(f"/proc/{pid}/cmdline").read_text()


async def test_a_process_runs_the_code_of_its_parent_wherever_that_is_installed(
    processes: HashPool,
) -> None:
    await processes.verify(PASSWORD, HASH)
    (pid,) = pids(processes)
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (path,) = (text[11:] for text in variables if text.startswith(b"PYTHONPATH="))
    first = Path(path.decode().split(os.pathsep)[0])
    assert first / "sidecar" / "__init__.py" == Path(sidecar.__file__)


async def test_a_password_that_is_not_valid_text_is_wrong_without_a_fault(
    processes: HashPool,
) -> None:
    assert not await processes.verify("\ud800\n\0", HASH)
    assert not await processes.verify("x" * 100_000, HASH)
    assert await processes.verify(PASSWORD, HASH)


async def test_two_at_once_are_two_processes(processes: HashPool) -> None:
    asked = (processes.verify(password, HASH) for password in (PASSWORD, "wrong"))
    assert await asyncio.gather(*asked) == [True, False]
    assert len(pids(processes)) == 2


async def test_one_that_was_killed_while_idle_is_replaced(processes: HashPool) -> None:
    assert await processes.verify(PASSWORD, HASH)
    (first,) = pids(processes)
    os.kill(first, signal.SIGKILL)
    assert await processes.verify(PASSWORD, HASH)
    assert first not in pids(processes)


async def test_signals_to_the_group_do_not_end_it_while_its_parent_drains(
    processes: HashPool,
) -> None:
    assert await processes.verify(PASSWORD, HASH)
    (pid,) = pids(processes)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert await processes.verify(PASSWORD, HASH)
    assert pids(processes) == [pid]


async def test_who_leaves_takes_no_answer_along(processes: HashPool) -> None:
    assert await processes.verify(PASSWORD, HASH)
    leaving = asyncio.ensure_future(processes.verify(PASSWORD, HASH))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not await processes.verify("wrong", HASH)


async def test_without_a_process_it_is_not_known(
    processes: HashPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (("/nonexistent",), ("true",)):
        monkeypatch.setattr(module, "_COMMAND", command)
        with pytest.raises(Overloaded):
            await processes.verify(PASSWORD, HASH)
    assert not pids(processes)


async def test_closing_leaves_no_process_behind() -> None:
    processes = HashPool(1)
    assert await processes.verify(PASSWORD, HASH)
    (pid,) = pids(processes)
    await processes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_ends_with_its_parent(processes: HashPool) -> None:
    """As it does when the asker is killed: its input ends."""
    assert await processes.verify(PASSWORD, HASH)
    (hasher,) = processes._alive
    assert hasher._transport is not None
    hasher._transport.write_eof()
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(hasher.process.wait) == 0


def test_workers_share_half_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert [pool_size(workers) for workers in (1, 2, 4, 8)] == [4, 2, 1, 1]


def test_a_question_is_a_line_and_an_answer_a_byte() -> None:
    answers = io.BytesIO()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # as the process does, in its way
    serve(io.BytesIO(b'["x","pw"]\n["y","pw"]\n'), answers, lambda password, _: password == "x")
    assert answers.getvalue() == b"10"


async def test_a_command_hashes_in_a_thread() -> None:
    assert await verify_in_thread(PASSWORD, HASH)
