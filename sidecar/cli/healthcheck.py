"""``sidecar healthcheck``: asks the running process if it is alive, for containers and systemd."""

from __future__ import annotations

import argparse
import http.client
import socket
import sys
from typing import TYPE_CHECKING

from sidecar.cli.options import Subparsers, add_config, load_settings
from sidecar.core.errors import UsageError
from sidecar.core.os_errors import reason_of

if TYPE_CHECKING:
    from sidecar.config.endpoints import SocketAddress

TIMEOUT_SECONDS = 2.0
_EXAMPLES = (
    "sidecar healthcheck || echo 'not alive'",
    "sidecar healthcheck --config /etc/sidecar/sidecar.yaml",
)
_ANY_TO_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound, only translated


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "healthcheck",
        help="exit 0 if the running sidecar is alive, 1 if not",
        description="Request /healthz from the operations listener of the sidecar that runs with "
        "this configuration. Exit status: 0 if it is alive, 1 if not.",
        examples=_EXAMPLES,
    )
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    operations = load_settings(arguments).operations
    if operations is None:
        raise UsageError("there is no operations listener to ask; set operations.address")
    problem = _ask(operations.address)
    if problem:
        print(f"sidecar: not alive at {operations.address}: {problem}", file=sys.stderr)
        return 1
    return 0


def _ask(address: SocketAddress) -> str | None:
    """Return why the listener at ``address`` is not healthy; ``None`` if it is."""
    connection = _HealthConnection(address)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except OSError as error:
        return f"{reason_of(error)}; does `sidecar run` run here, with this configuration?"
    except http.client.HTTPException as error:
        return f"what answers is not the sidecar ({type(error).__name__})"
    finally:
        connection.close()
    return None if status == 200 else f"/healthz answered {status}"


class _HealthConnection(http.client.HTTPConnection):
    """An HTTP connection to any address, unix sockets included."""

    def __init__(self, address: SocketAddress) -> None:
        host = _ANY_TO_LOOPBACK.get(address.host, address.host)
        super().__init__(host or "localhost", address.port or None, timeout=TIMEOUT_SECONDS)
        self._path = address.path

    def connect(self) -> None:
        """Connect to the unix socket if the address is one, else over TCP."""
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)
