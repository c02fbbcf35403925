"""An address that can't be listened on is told with what to do."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from sidecar.config.endpoints import SocketAddress
from sidecar.runtime import bind_advice
from sidecar.runtime.bind_advice import explain_bind_error

TCP = SocketAddress("127.0.0.1", 443)
HIGH = SocketAddress("127.0.0.1", 8443)
UNIX = SocketAddress(path="/run/x/y.sock")


@pytest.mark.parametrize(
    ("number", "address", "told"),
    [
        (errno.EACCES, TCP, "Permission denied; ports below 1024 need a right: give the program"),
        (errno.EACCES, HIGH, "Permission denied"),
        (errno.EADDRINUSE, TCP, "Address already in use; another program listens there (ss -ltnp"),
        (errno.EADDRINUSE, UNIX, "another program listens there (ss -lxp"),
        (errno.EADDRNOTAVAIL, TCP, "this machine has no such address"),
        (errno.EAFNOSUPPORT, SocketAddress("::1", 1), "this machine has no IPv6"),
        (errno.ENOENT, UNIX, "there is no directory /run/x; create it"),
        (errno.EACCES, UNIX, f"let user {os.geteuid()} write in /run/x"),
        (errno.EROFS, UNIX, "Read-only file system; let user"),
    ],
)
def test_why_it_fails_is_followed_by_what_to_do(
    monkeypatch: pytest.MonkeyPatch, number: int, address: SocketAddress, told: str
) -> None:
    monkeypatch.setattr(bind_advice, "_first_free_port", lambda: 1024)
    assert told in explain_bind_error(OSError(number, "[Errno] whatever"), address)


def test_a_name_that_is_no_host_and_a_file_that_is_no_socket_are_told(tmp_path: Path) -> None:
    error = socket.gaierror(-2, "Name or service not known")
    assert explain_bind_error(error, TCP).startswith("there is no host of this name; write an IP")
    (tmp_path / "file").touch()
    address = SocketAddress(path=str(tmp_path / "file"))
    assert "not a socket" in explain_bind_error(OSError(errno.EADDRINUSE, "x"), address)
