"""What to do if an address can't be listened on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from sidecar.config.endpoints import SocketAddress
from sidecar.core.os_errors import is_unknown_host, reason_of

_FIRST_FREE_PORT: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def explain_bind_error(error: OSError, address: SocketAddress) -> str:
    """Return why an address can't be listened on, and what to do."""
    if is_unknown_host(error):
        return f"{reason_of(error)}; write an IP address of this machine"
    advice = _advice_on(error.errno or 0, address)
    return f"{reason_of(error)}; {advice}" if advice else reason_of(error)


def _advice_on(number: int, address: SocketAddress) -> str:
    if number == errno.EADDRINUSE and address.path is not None and Path(address.path).is_file():
        return (
            "there is a file of this name that is not a socket: remove it, or choose another path"
        )
    if number == errno.EADDRINUSE:
        how = "ss -lxp" if address.path is not None else "ss -ltnp"
        return f"another program listens there ({how} names it): stop it, or choose another address"
    if number == errno.EADDRNOTAVAIL:
        return "this machine has no such address (ip address lists them), or not yet"
    if number == errno.EAFNOSUPPORT:
        return "this machine has no IPv6; write an IPv4 address"
    if address.path is not None:
        return _advice_on_socket(number, Path(address.path).parent)
    if number in (errno.EACCES, errno.EPERM) and address.port < _first_free_port():
        return (
            f"ports below {_first_free_port()} need a right: give the program CAP_NET_BIND_SERVICE "
            "(in systemd, AmbientCapabilities=), or choose another port"
        )
    return ""


def _advice_on_socket(number: int, directory: Path) -> str:
    if number == errno.ENOENT:
        return f"there is no directory {directory}; create it"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"let user {os.geteuid()} write in {directory}"
    return ""


def _first_free_port() -> int:
    try:
        return int(_FIRST_FREE_PORT.read_text())
    except (OSError, ValueError):
        return 1024
