"""What the nodes of a Cluster report: who serves which slots, and where a key is instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sidecar.store.endpoints import Endpoint

SLOTS: Final = 16384

Range = tuple[int, int, Endpoint]
"""The first and the last of consecutive slots, and the master that serves them."""


@dataclass(frozen=True, slots=True)
class View:
    """The Cluster as one node sees it, which may be outdated."""

    is_well: bool
    """Whether the node serves its slots, that is, sees the majority."""
    epoch: int
    """Grows with each fail-over: a view with a greater epoch is newer."""
    ranges: tuple[Range, ...]
    nodes: frozenset[Endpoint]
    """All nodes that were named, including replicas: they can be asked for a view as well."""

    @property
    def masters(self) -> set[Endpoint]:
        """The masters that serve slots."""
        return {endpoint for _, _, endpoint in self.ranges}


def read_view(asked: Endpoint, info: Any, slots: Any) -> View | None:
    """Return the view in the replies to ``CLUSTER INFO`` and ``CLUSTER SLOTS``, if there is one.

    A node that reports no address of its own has the address at which it was asked.
    """
    if not isinstance(info, bytes) or not isinstance(slots, list):
        return None
    try:
        facts = dict(line.split(b":", 1) for line in info.split(b"\r\n") if b":" in line)
        epoch = int(facts[b"cluster_current_epoch"])
        ranges = tuple(_read_ranges(asked, slots))
        nodes = frozenset(
            endpoint
            for _, _, *told in slots
            for node in told
            if (endpoint := _read_endpoint(asked, node[0], node[1])) is not None
        )
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return View(facts.get(b"cluster_state") == b"ok", epoch, ranges, nodes | {asked})


def _read_ranges(asked: Endpoint, slots: Sequence[Any]) -> Iterator[Range]:
    for first, last, master, *_ in slots:
        endpoint = _read_endpoint(asked, master[0], master[1])
        if endpoint is not None and 0 <= first <= last < SLOTS:
            yield int(first), int(last), endpoint


def _read_endpoint(asked: Endpoint, host: bytes | None, port: int) -> Endpoint | None:
    if host == b"?":  # the asked node does not know the address yet
        return None
    return Endpoint(host.decode() if host else asked.host, int(port))


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where to ask for a key instead: permanently (``MOVED``), or once (``ASK``)."""

    is_permanent: bool
    endpoint: Endpoint


def read_redirect(asked: Endpoint, reply: str) -> Redirect | None:
    """Read ``MOVED <slot> <host>:<port>`` or ``ASK ...``; ``None`` for other errors."""
    words = reply.split(" ")
    if len(words) != 3 or words[0] not in {"MOVED", "ASK"}:
        return None
    host, colon, port = words[2].rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return None
    endpoint = _read_endpoint(asked, host.encode(), int(port))
    return None if endpoint is None else Redirect(words[0] == "MOVED", endpoint)
