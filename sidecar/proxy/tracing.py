"""Which trace a request belongs to: its caller's, if that is told properly, else one begun here.

Without export a caller's ``traceparent`` goes on as it came. With export the sidecar is a span of
the trace where it is sampled: the service gets the sidecar's span as its parent. A caller's word
that its trace is sampled is taken; of those begun here a share is.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits  # seeded anew after a fork
from typing import Final

from sidecar.core.trace_context import PARENT_ID, TRACE_ID, find_parent, is_sampled

Trace = tuple[str, str | None]
"""The ``traceparent`` that the service is told (empty: none), and whose child the sidecar's span is
(empty: nobody's; ``None``: the sidecar is no span).
"""

_ALL: Final = 1 << 64
_NO_TRACE: Final[Trace] = ("", None)


class Traces:
    """Finds out a request's trace.

    ``share`` of the traces that begin here are sampled, from 0 to 1, by their ids' lower half as
    OpenTelemetry's samplers do; without ``begins`` none begins here. ``exports``: the sidecar is a
    span of those that are sampled.
    """

    __slots__ = ("_begins", "_bound", "_exports", "_samples_all")

    def __init__(self, *, begins: bool = True, share: float = 1.0, exports: bool = False) -> None:
        self._begins = begins
        self._samples_all = share >= 1
        self._bound = f"{round(share * _ALL):016x}"  # of no use where all are
        self._exports = exports

    def find(self, given: Sequence[bytes]) -> Trace:
        """Return the trace of a request with these ``traceparent`` values."""
        parent = find_parent(given) if given else None
        if parent is None:
            return self._begin() if self._begins else _NO_TRACE
        if self._exports and is_sampled(parent):
            span_id = getrandbits(64).to_bytes(8, "big").hex()
            return f"00-{parent[TRACE_ID]}-{span_id}-01", parent[PARENT_ID]
        return parent, None

    def _begin(self) -> Trace:
        ids = getrandbits(192).to_bytes(24, "big").hex()
        if not self._samples_all and ids[16:32] >= self._bound:
            return f"00-{ids[:32]}-{ids[32:]}-00", None
        return f"00-{ids[:32]}-{ids[32:]}-01", "" if self._exports else None
