"""Faults in the log, at most a line a second of each kind: an outage must not become a flood.

What was left out is counted and said with the next line of its kind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from sidecar.core.error_location import error_location
from sidecar.core.errors import Fault

_SECONDS: Final = 1.0
_log = logging.getLogger("sidecar")


def log_unhandled(loop: object, context: Mapping[str, Any]) -> None:
    """Log an exception that reached nobody but the event loop; called by asyncio.

    Not in its words, nor with what was called: both may quote a credential.
    """
    error = context.get("exception")
    told = context.get("message", "") if error is None else error_location(error)
    _log.error("nobody expected this: %s", told)


class FaultLog:
    """Writes faults to a logger."""

    def __init__(self, log: logging.Logger, now: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._now = now
        self._said: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def note(self, fault: Fault, request_id: str) -> None:
        """Log a fault that a request met, unless one of its kind was logged within the second."""
        code, now = fault.code, self._now()
        if now - self._said.get(code, -_SECONDS) < _SECONDS:
            self._left_out[code] = self._left_out.get(code, 0) + 1
            return
        self._said[code] = now
        more = self._left_out.pop(code, 0)
        rest = f", and {more} more before" if more else ""
        self._log.warning("%s: %s (request %s%s)", code, fault, request_id, rest)
