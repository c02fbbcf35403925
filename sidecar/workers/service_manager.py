"""Notifications to systemd: ready, reloading, stopping, alive (sd_notify(3)).

Each notification is a datagram of lines to the unix socket in ``$NOTIFY_SOCKET``; without that,
nothing is sent. The protocol is too small to be worth a library.
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
    """Sends notifications if a service manager asks for them in ``environ``; never blocks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._status = ""
        self.watchdog_seconds = _watchdog_seconds(environ)
        """The interval at which to call ``alive``, in seconds; 0: never."""

    def ready(self, status: str) -> None:
        """Notify that the service is ready, for the first time or again."""
        self._send(f"READY=1\nMAINPID={os.getpid()}", status)

    def reloading(self, status: str) -> None:
        """Notify that a reload or an upgrade has begun; ``ready`` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}", status)

    def stopping(self, status: str) -> None:
        """Notify that the service is stopping."""
        self._send("STOPPING=1", status)

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1", "")

    def status(self, status: str) -> None:
        """Set the status line, if it changed."""
        if status != self._status:
            self._send("", status)

    def _send(self, lines: str, status: str) -> None:
        if status:
            self._status = status
            lines = f"{lines}\nSTATUS={status}".lstrip()
        if not self._address:
            return
        # A service manager that does not listen must not hold up the service.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(lines.encode(), self._address)


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return half of the watchdog's time-out, unless ``WATCHDOG_PID`` names another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / _MICROSECONDS / 2
    except ValueError:
        return 0.0
