"""How a process ended, in words."""

from __future__ import annotations

import signal


def describe_exit(status: int) -> str:
    """Describe an exit status; a negative one is the number of a signal (``os.waitstatus``)."""
    if status >= 0:
        return f"exit status {status}"
    return signal.Signals(-status).name
