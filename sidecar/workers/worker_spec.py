"""What a worker receives from its supervisor when it is forked."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.wire.listening import Slots


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Its slot of ``count``, the sockets of all slots by use, its end of the socketpair."""

    slot: int
    count: int
    sockets: Mapping[str, Slots]
    channel: socket.socket
    generation: int
    """The generation of the configuration in force."""
    refused: int
    """How many invalid configurations have been refused so far."""

    @property
    def name(self) -> str:
        """The worker's name in the log."""
        return f"worker {self.slot + 1}"
