"""Where a process listens: several addresses, both families, sockets that a group shares."""

from __future__ import annotations

import contextlib
import grp
import os
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import plain_settings
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder


def status(family: int, address: Any, *fields: str) -> str:
    """Return the status of one request, or the error that connecting made."""
    with socket.socket(family) as asking:
        asking.settimeout(PATIENCE_SECONDS)
        try:
            asking.connect(address)
        except OSError as error:
            return type(error).__name__
        head = ["GET /status HTTP/1.1", "Host: a", "Connection: close", *fields, "", ""]
        asking.sendall("\r\n".join(head).encode())
        with contextlib.suppress(IndexError):
            return asking.recv(1000).split()[1].decode()
    return "closed"


class Place:
    """A directory with a unix socket, and settings to run a sidecar with."""

    def __init__(self, directory: Path, redis: RedisServer, recorder: Recorder) -> None:
        self.directory = directory
        self.path = str(directory / "proxy.sock")
        self.unix = f"unix:{self.path}"
        self.port = free_port()
        self.settings = plain_settings(redis, recorder.url)

    def run(self, **listen: Any) -> ProxyProcess:
        return ProxyProcess(self.directory, {**self.settings, "listen": listen})

    def mode(self, path: str | None = None) -> int:
        return stat.S_IMODE(Path(path or self.path).stat().st_mode)


@pytest.fixture
def place(tmp_path: Path, redis: RedisServer, recorder: Recorder) -> Place:
    return Place(tmp_path, redis, recorder)


@pytest.mark.parametrize(
    ("written", "mode"),
    [({}, 0o660), ({"mode": "0600"}, 0o600), ({"mode": "666"}, 0o666), ({"mode": "0777"}, 0o777)],
)
def test_a_unix_socket_has_the_mode_that_is_written_whatever_the_umask(
    place: Place, written: dict[str, str], mode: int
) -> None:
    before = os.umask(0o077)
    try:
        with place.run(address=place.unix, **written):
            assert place.mode() == mode
            assert status(socket.AF_UNIX, place.path) == "200"
    finally:
        os.umask(before)


def own_other_group() -> int | None:
    """Return a group that this process may give files to, other than its own."""
    if os.geteuid() == 0:
        return next(one.gr_gid for one in grp.getgrall() if one.gr_gid != os.getegid())
    return next((gid for gid in os.getgroups() if gid != os.getegid()), None)


@pytest.mark.parametrize("by_name", [True, False])
def test_the_sockets_of_all_listeners_get_the_group(place: Place, by_name: bool) -> None:
    group = own_other_group()
    if group is None:
        pytest.skip("there is no other group")
    place.settings["portal"] = {"address": f"unix:{place.directory}/portal.sock"}
    named = grp.getgrgid(group).gr_name if by_name else str(group)
    with place.run(address=place.unix, group=named):
        for name in ("proxy.sock", "portal.sock"):
            found = (place.directory / name).stat()
            assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (group, 0o660)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_list_serves_each_of_its_addresses(place: Place, workers: int) -> None:
    place.settings["workers"] = workers
    other = free_port()
    listed = [f"127.0.0.1:{place.port}", place.unix, f"127.0.0.2:{other}"]
    with place.run(address=listed) as proxy:
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", place.port)),
            (socket.AF_UNIX, place.path),
            (socket.AF_INET, ("127.0.0.2", other)),
        ):
            assert [status(family, address) for _ in range(8)] == ["200"] * 8
        assert f"listening on {', '.join(listed)}" in proxy.stderr
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", place.port)),
        (socket.AF_UNIX, place.path),
    ):
        assert status(family, address) == "ConnectionRefusedError"


def test_an_address_of_the_list_that_is_taken_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        proxy = place.run(address=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{place.port}"])
        with pytest.raises(AssertionError, match=r"listen\.address: can't listen on 127\.0\.0\.1:"):
            proxy.start()


@pytest.mark.parametrize(
    "listed",
    [["[::]:{port}"], ["[::]:{port}", "0.0.0.0:{port}"], ["127.0.0.1:{port}", "[::]:{port}"]],
)
def test_both_families_are_served_and_ipv4_is_logged_as_such(
    place: Place, listed: list[str]
) -> None:
    with place.run(address=[one.format(port=place.port) for one in listed]) as proxy:
        assert status(socket.AF_INET, ("127.0.0.1", place.port)) == "200"
        assert status(socket.AF_INET6, ("::1", place.port)) == "200"
        clients = seen(proxy, 2)
    assert clients == ["127.0.0.1", "::1"]


def seen(proxy: ProxyProcess, count: int) -> list[str]:
    """Return the clients of the access log, once it has ``count`` lines."""
    end = time.monotonic() + PATIENCE_SECONDS
    while len(proxy.access_lines()) < count:
        assert time.monotonic() < end
        time.sleep(0.01)
    return [line["client"] for line in proxy.access_lines()]


FORWARDED = "X-Forwarded-For: 198.51.100.9"


@pytest.mark.parametrize(
    ("trusted", "clients"),
    [
        ([], ["unix:", "127.0.0.1"]),
        (["unix"], ["198.51.100.9", "127.0.0.1"]),
        (["127.0.0.1"], ["unix:", "198.51.100.9"]),
        (["unix", "127.0.0.1"], ["198.51.100.9", "198.51.100.9"]),
    ],
)
def test_peers_of_unix_sockets_are_believed_if_unix_is_trusted(
    place: Place, recorder: Recorder, trusted: list[str], clients: list[str]
) -> None:
    place.settings["trusted_proxies"] = trusted
    with place.run(address=[place.unix, f"127.0.0.1:{place.port}"]) as proxy:
        assert status(socket.AF_UNIX, place.path, FORWARDED) == "200"
        assert seen(proxy, 1) == clients[:1]
        assert status(socket.AF_INET, ("127.0.0.1", place.port), FORWARDED) == "200"
        assert seen(proxy, 2) == clients


def rewrite(proxy: ProxyProcess, **listen: Any) -> None:
    proxy.settings["listen"] = listen
    proxy.config.write_text(yaml.safe_dump(proxy.settings, sort_keys=False))


def until(proxy: ProxyProcess, text: str, count: int = 1) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while proxy.stderr.count(text) < count:
        assert time.monotonic() < end, proxy.stderr
        time.sleep(0.02)


def test_an_upgrade_takes_up_mode_and_addresses_and_keeps_those_that_stay(place: Place) -> None:
    first, second = f"127.0.0.1:{place.port}", f"127.0.0.1:{free_port()}"
    with place.run(address=[first, place.unix], mode="0600") as proxy:
        socket_before = Path(place.path).stat().st_ino
        rewrite(proxy, address=[second, place.unix], mode="0666")
        until(proxy, "listen.mode has changed in the file: the change needs a restart")
        assert "listen.address has changed in the file: the change needs a restart" in proxy.stderr
        assert place.mode() == 0o600
        proxy.signal(signal.SIGUSR2)
        until(proxy, "listening on ", 2)
        assert f"listening on {second}, {place.unix}" in proxy.stderr
        assert (place.mode(), Path(place.path).stat().st_ino) == (0o666, socket_before)
        assert status(socket.AF_UNIX, place.path) == "200"
        assert status(socket.AF_INET, ("127.0.0.1", int(second.rpartition(":")[2]))) == "200"
        assert gone(("127.0.0.1", place.port))


def gone(address: tuple[str, int]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while status(socket.AF_INET, address) != "ConnectionRefusedError":
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_probe_is_told_of_the_end_before_connections_are_refused(place: Place) -> None:
    place.settings["drain"] = {"delay": "2s", "timeout": "5s"}
    with place.run(address=f"127.0.0.1:{place.port}", health_path="/healthz") as proxy:
        assert probe(place.port) == "200"
        proxy.signal(signal.SIGTERM)
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := probe(place.port)) == "200":
            assert time.monotonic() < end
        assert found == "503"
        proxy.wait()


def probe(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as asking:
        asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        return asking.recv(1000).split()[1].decode()
