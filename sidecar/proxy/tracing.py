"""Which trace a request belongs to: the caller's if its ``traceparent`` is valid, else a new one.

Without export, a caller's ``traceparent`` is forwarded as it came. With export, the sidecar adds a
span of its own to each sampled trace, and the service gets that span as its parent. The caller
decides whether its trace is sampled; of the traces that begin here, a configured share is.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits  # seeded anew after a fork
from typing import Final

from sidecar.core.trace_context import PARENT_ID, TRACE_ID, find_parent, is_sampled

Trace = tuple[str, str | None]
"""The ``traceparent`` that the service gets (empty: none), and the parent of the sidecar's span.

The parent is empty if the trace begins with the sidecar's span; ``None`` if it adds no span.
"""

_ALL: Final = 1 << 64
_TRACE_DIGITS: Final = 32  # of base 16 (W3C Trace Context, section 3.2.2)
_SPAN_DIGITS: Final = 16
_BITS_IN_STOCK: Final = 64 * (_TRACE_DIGITS + _SPAN_DIGITS) * 4
_NO_TRACE: Final[Trace] = ("", None)


class Traces:
    """Finds a request's trace, or begins one.

    ``share``, from 0 to 1, of the traces that begin here are sampled, by the lower half of their
    ids as OpenTelemetry's samplers do it. Without ``begins``, none begins here. With ``exports``,
    the sidecar adds a span to those that are sampled.
    """

    __slots__ = ("_at", "_bound", "_digits", "_exports", "_samples_all", "begins")

    def __init__(self, *, begins: bool = True, share: float = 1.0, exports: bool = False) -> None:
        self.begins = begins
        self._samples_all = share >= 1
        self._bound = f"{round(share * _ALL):016x}"  # unused if all are sampled
        self._exports = exports
        self._digits = ""
        """Random digits in stock, made when a process begins its first trace: so never forked."""
        self._at = 0

    def find(self, given: Sequence[bytes]) -> Trace:
        """Return the trace of a request with these ``traceparent`` values."""
        parent = find_parent(given) if given else None
        if parent is None:
            return self._begin() if self.begins else _NO_TRACE
        if self._exports and is_sampled(parent):
            span_id = getrandbits(64).to_bytes(8, "big").hex()
            return f"00-{parent[TRACE_ID]}-{span_id}-01", parent[PARENT_ID]
        return parent, None

    def _begin(self) -> Trace:
        digits, at = self._digits, self._at
        if at >= len(digits):
            digits = getrandbits(_BITS_IN_STOCK).to_bytes(_BITS_IN_STOCK // 8, "big").hex()
            self._digits, at = digits, 0
        self._at = at + _TRACE_DIGITS + _SPAN_DIGITS
        trace_id = digits[at : at + _TRACE_DIGITS]
        span_id = digits[at + _TRACE_DIGITS : at + _TRACE_DIGITS + _SPAN_DIGITS]
        if not self._samples_all and trace_id[16:] >= self._bound:
            return f"00-{trace_id}-{span_id}-00", None
        return f"00-{trace_id}-{span_id}-01", "" if self._exports else None
