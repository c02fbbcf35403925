"""What a worker is given when it is forked."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.wire.listening import Slots


@dataclass(frozen=True, slots=True)
class Place:
    """Its slot, the sockets of all slots by their use, and its line to the supervisor."""

    slot: int
    count: int
    sockets: Mapping[str, Slots]
    channel: socket.socket
    generation: int
    """Of the configuration in force, as other workers count it."""
    refused: int
    """How many faulty files they have met."""

    @property
    def name(self) -> str:
        """What the worker is called in the log."""
        return f"worker {self.slot + 1}"
