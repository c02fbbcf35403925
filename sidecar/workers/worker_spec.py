"""What a worker is given when it is forked."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.wire.listening import Slots


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Its slot, the sockets of all slots by use, and its channel to the supervisor."""

    slot: int
    count: int
    sockets: Mapping[str, Slots]
    channel: socket.socket
    generation: int
    """The generation of the configuration in force."""
    refused: int
    """How many faulty configurations were refused so far."""

    @property
    def name(self) -> str:
        """The worker's name in the log."""
        return f"worker {self.slot + 1}"
