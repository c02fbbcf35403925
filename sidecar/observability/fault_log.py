"""Faults in the log, at most one line a second for each kind, so that an outage does not flood it.

The next line of a kind has the number of faults that were left out.
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
    """Log an exception that no code has caught; the event loop calls this.

    The log gets its type and place only: its message, or the call, could quote a credential.
    """
    error = context.get("exception")
    what = context.get("message", "") if error is None else error_location(error)
    _log.error("unexpected error: %s", what)


class FaultLog:
    """Writes faults to a logger."""

    def __init__(self, log: logging.Logger, now: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._now = now
        self._logged: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def note(self, fault: Fault, request_id: str) -> None:
        """Log a fault that a request met, unless one of its kind was logged within the second."""
        code, now = fault.code, self._now()
        if now - self._logged.get(code, -_SECONDS) < _SECONDS:
            self._left_out[code] = self._left_out.get(code, 0) + 1
            return
        self._logged[code] = now
        more = self._left_out.pop(code, 0)
        rest = f", and {more} more before" if more else ""
        self._log.warning("%s: %s (request %s%s)", code, fault, request_id, rest)
