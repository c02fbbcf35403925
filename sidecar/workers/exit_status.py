"""How a process ended, in words."""

from __future__ import annotations

import signal


def describe_exit(status: int) -> str:
    """Describe an exit status; a negative one is a signal (``os.waitstatus_to_exitcode``)."""
    if status >= 0:
        return f"exit status {status}"
    return signal.Signals(-status).name
