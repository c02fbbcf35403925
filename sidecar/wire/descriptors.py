"""How a process divides its file descriptors: what callers may take, and what is kept from them.

A caller costs one descriptor, and mostly a second one for its connection to a service. Callers are
admitted while there is room for both; beyond that they wait in the sockets' queues, unanswered but
not reset. A quarter of the limit is kept for what a caller never gets: the operations listener and
the portal, which have shares of their own, links to Redis, look-ups of names, files and processes.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import Final

OWN_DESCRIPTORS: Final = 30
"""About what a process has open before the first caller: libraries, sockets, pipes, logs, Redis."""

MOST_KEPT: Final = 4096
_UNLIMITED: Final = 1 << 30


def raise_limit() -> int:
    """Raise this process's limit of descriptors as far as it may; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS: "unlimited" is more than the kernel gives
            return _finite(soft)
    return _finite(hard)


def limit_now() -> int:
    """Return how many descriptors this process may have."""
    return _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def hard_limit() -> int:
    """Return how far the limit may be raised."""
    return _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def count_open() -> int:
    """Return how many descriptors this process has open; an estimate where nothing tells."""
    for place in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(place)) - 1  # less the one that lists them
        except OSError:
            continue
    return OWN_DESCRIPTORS


@dataclass(frozen=True, slots=True)
class DescriptorShares:
    """Who may have how many of ``limit`` descriptors, ``own`` of which are open from the start.

    ``upstreams`` is the number of connections that all pools together may open.
    """

    limit: int
    own: int
    upstreams: int

    @property
    def kept(self) -> int:
        """What callers never get."""
        return min(self.limit // 4, MOST_KEPT)

    @property
    def callers(self) -> int:
        """How many callers may be connected at once; at least one."""
        room = self.limit - self.own - self.kept
        return max(1, room - self.upstreams, room // 2)

    @property
    def operations(self) -> int:
        """How many connections the operations listener may have."""
        return max(2, self.kept * 3 // 8)

    @property
    def portal(self) -> int:
        """How many connections the portal may have."""
        return max(2, self.kept // 8)

    def needed_for(self, callers: int) -> int:
        """Return the least limit, in round numbers, under which so many callers are admitted."""
        rest = callers + min(callers, self.upstreams) + self.own
        return -(-(rest + min(MOST_KEPT, rest // 3 + 1)) // 100) * 100


def _finite(limit: int) -> int:
    return _UNLIMITED if limit in (-1, resource.RLIM_INFINITY) else limit
