"""A resolver by script: what each name has, and which look-ups hang until they are let go."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterable

from sidecar.outgoing.resolver import ResolvedAddress, ResolvedAddresses
from tests.patience import PATIENCE_SECONDS


def addresses(*hosts: str) -> ResolvedAddresses:
    """Return IP addresses as a resolver gives them."""
    return tuple(
        ResolvedAddress(socket.AF_INET6 if ":" in host else socket.AF_INET, host) for host in hosts
    )


class FakeResolver:
    """Stands in for getaddrinfo. Used in other threads than the test's."""

    def __init__(self, **answers: Iterable[str]) -> None:
        self.answers: dict[str, ResolvedAddresses | OSError] = {
            name: addresses(*hosts) for name, hosts in answers.items()
        }
        self.asked: Counter[str] = Counter()
        self._gates: dict[str, threading.Event] = {}

    def __call__(self, host: str) -> ResolvedAddresses:
        self.asked[host] += 1
        gate = self._gates.get(host)
        if gate is not None:
            assert gate.wait(PATIENCE_SECONDS), "nobody let the look-up go on"
        answer = self.answers[host]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def hang(self, host: str) -> None:
        """Let look-ups of this name take for as long as the test likes."""
        self._gates[host] = threading.Event()

    def go_on(self, host: str) -> None:
        """Let them answer, also those under way."""
        self._gates.pop(host).set()
