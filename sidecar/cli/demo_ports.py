"""Which three ports a demo listens on: 2020 to 2022, or the next that are free, and why not those.

Listening begins seconds after the choice, behind long imports, and until then a chosen port looks
free. So each demo marks its ports, for as long as it runs, by a unix socket without a file
(unix(7), "abstract") that is named after the port: no two demos choose the same.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Final

from sidecar.core.os_errors import reason_of

WANTED: Final = (2020, 2021, 2022)
_STEP: Final = 10
_MOST_TRIES: Final = 50


def choose_ports(host: str, reserved: ExitStack) -> tuple[tuple[int, ...], str]:
    """Return the ports, kept from other demos until ``reserved`` is closed, and a sentence on why.

    The sentence is empty for the wanted ones. Raises ``OSError`` if no port is free at all.
    """
    taken: dict[int, str] = {}
    for start in range(0, _MOST_TRIES * _STEP, _STEP):
        ports = tuple(port + start for port in WANTED)
        with ExitStack() as marks:
            found = {port: why for port in ports if (why := _reserve(host, port, marks))}
            if not found:
                reserved.enter_context(marks.pop_all())
                return ports, _explain(taken, ports)
        taken = taken or found
    ports = tuple(_any_port(host) for _ in WANTED)
    return ports, _explain(taken, ports)


def _reserve(host: str, port: int, marks: ExitStack) -> str:
    """Mark a port as a demo's; return why it can't be had, or nothing."""
    mark = marks.enter_context(socket.socket(socket.AF_UNIX))
    try:
        mark.bind(f"\0sidecar demo {port}")
    except OSError:
        return "another demo has it"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            return "another program listens on it" if in_use else reason_of(error)
    return ""


def _any_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _explain(taken: dict[int, str], ports: tuple[int, ...]) -> str:
    if not taken:
        return ""
    which = ", ".join(f"{port} ({why})" for port, why in taken.items())
    ending = "s" if len(taken) > 1 else ""
    instead = ", ".join(map(str, ports))
    return f"Not free: port{ending} {which}. This demo listens on {instead} instead."
