"""What systemd is told: ready, reloading, stopping, alive (sd_notify(3)).

A datagram of lines to the unix socket that ``$NOTIFY_SOCKET`` names; without it, nothing is sent.
That is all of the protocol, so it is written here instead of taken from a library.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """Sends what it is told, if there is anyone to send it to, and never waits."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._status = ""
        self.watchdog_seconds = _watchdog_seconds(environ)
        """How often it wants to hear that all is well, in seconds; 0: it does not."""

    def ready(self, status: str) -> None:
        """Say that it serves (again)."""
        self._send(f"READY=1\nMAINPID={os.getpid()}", status)

    def reloading(self, status: str) -> None:
        """Say that a reload or an upgrade has begun; ``ready`` says that it is over."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}", status)

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1", status)

    def alive(self) -> None:
        """Say that all is well."""
        self._send("WATCHDOG=1", "")

    def status(self, status: str) -> None:
        """Say what an admin may like to know, if it is something new."""
        if status != self._status:
            self._send("", status)

    def _send(self, lines: str, status: str) -> None:
        if status:
            self._status = status
            lines = f"{lines}\nSTATUS={status}".lstrip()
        if not self._address:
            return
        # Whether anyone listens is not our concern.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(lines.encode(), self._address)


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return half of what the service manager waits; ``WATCHDOG_PID`` says who is meant."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / _MICROSECONDS / 2
    except ValueError:
        return 0.0
