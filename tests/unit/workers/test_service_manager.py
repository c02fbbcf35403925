"""Notifications to systemd, over a socket in the file system and over an abstract one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.workers.service_manager import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Yield the value of ``$NOTIFY_SOCKET``, and the socket that it names."""
    name = str(tmp_path / "notify")
    address = name if request.param == "path" else f"\0{name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(5)
        yield address.replace("\0", "@"), listener


def read(listener: socket.socket) -> dict[str, str]:
    lines = listener.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_each_change_of_state_is_notified(heard: tuple[str, socket.socket]) -> None:
    """sd_notify(3): a reload has the time of its start, readiness has the process id."""
    name, listener = heard
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    manager.ready("2 workers ready")
    assert read(listener) == {
        "READY": "1",
        "MAINPID": str(os.getpid()),
        "STATUS": "2 workers ready",
    }
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.reloading("reading")
    told = read(listener)
    assert (told["RELOADING"], told["STATUS"]) == ("1", "reading")
    assert before <= int(told["MONOTONIC_USEC"]) <= before + 60_000_000
    manager.stopping("draining")
    assert read(listener) == {"STOPPING": "1", "STATUS": "draining"}
    manager.alive()
    assert read(listener) == {"WATCHDOG": "1"}


def test_a_status_is_sent_only_if_it_has_changed(heard: tuple[str, socket.socket]) -> None:
    name, listener = heard
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    for status in ("one", "one", "two"):
        manager.status(status)
    assert [read(listener), read(listener)] == [{"STATUS": "one"}, {"STATUS": "two"}]
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        read(listener)


@pytest.mark.parametrize("name", ["", "/nowhere/at/all"])
def test_a_missing_service_manager_is_ignored(name: str) -> None:
    ServiceManager({"NOTIFY_SOCKET": name}).ready("1 worker ready")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "10000000"}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_fed_at_half_of_its_time_out(
    environ: dict[str, str], seconds: float
) -> None:
    assert ServiceManager(environ).watchdog_seconds == seconds
