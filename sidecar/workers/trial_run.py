"""Whether the program that is installed now would start: it is run once, on the side, to find out.

The trial reads the configuration, builds everything, binds the addresses that the running program
does not listen on, and exits with status 0 (``runtime.run``).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from typing import Final

from sidecar.core.errors import UsageError
from sidecar.workers.exit_status import describe_exit
from sidecar.workers.inheritance import TRIAL_RUN, own_command

_MOST_SECONDS: Final = 60.0


class TrialRun:
    """One trial run at a time. It does not bind ``addresses``: this program listens on them."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = list(addresses)
        self._process: subprocess.Popen[bytes] | None = None
        self._ends_by = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether a trial run is going on, or has passed and awaits ``finish``."""
        return self._process is not None

    def start(self, now: float) -> None:
        """Start a trial run. Raises ``UsageError`` if the program can't be executed."""
        environ = {**os.environ, TRIAL_RUN: json.dumps(self._addresses)}
        self._ends_by = now + _MOST_SECONDS
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                own_command(), env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        except OSError as error:
            raise UsageError(f"can't be started: {error.strerror}") from None

    def has_passed(self, now: float, *, is_cut_short: bool) -> bool:
        """Return whether the trial run has passed. Raises ``UsageError``, once, if it failed."""
        process = self._process
        if process is None:
            return False
        status = process.poll()
        if is_cut_short or (status is None and now > self._ends_by):
            process.kill()
            status = process.wait()
        if status:
            self._process = None
            raise UsageError(f"does not start ({describe_exit(status)})")
        return status == 0

    def finish(self) -> None:
        """Forget a trial run that has passed."""
        self._process = None
