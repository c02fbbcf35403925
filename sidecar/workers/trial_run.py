"""The trial run of the program that is installed now, before it takes this one's place.

It reads and builds everything, and ends with status 0 if it would start (``inheritance``).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterable
from typing import Final

from sidecar.workers import inheritance
from sidecar.workers.exit_status import describe_exit

_log = logging.getLogger("sidecar")

_TRIAL_RUN_SECONDS: Final = 60.0


class TrialRun:
    """One trial run at a time. ``addresses`` are those that are listened on already."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = list(addresses)
        self._trial: subprocess.Popen[bytes] | None = None
        self._ends_by = 0.0

    @property
    def is_under_way(self) -> bool:
        """Tell whether a trial run goes on, or has passed and is not taken up yet."""
        return self._trial is not None

    def begin(self, now: float) -> str:
        """Start a trial run; return why that is not possible, else nothing."""
        environ = {**os.environ, inheritance.TRIAL_RUN: json.dumps(self._addresses)}
        self._ends_by = now + _TRIAL_RUN_SECONDS
        try:
            self._trial = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                inheritance.own_command(),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            return f"can't be started: {error.strerror}"
        return ""

    def has_passed(self, now: float, *, is_cut_short: bool) -> bool | str:
        """Tell whether the trial run has passed; a sentence says that, and why, it has failed."""
        trial = self._trial
        if trial is None:
            return False
        status = trial.poll()
        if is_cut_short or (status is None and now > self._ends_by):
            trial.kill()
            status = trial.wait()
        if not status:
            return status == 0
        self._trial = None
        return f"does not start ({describe_exit(status)})"

    def conclude(self) -> None:
        """Forget a trial run that has passed."""
        self._trial = None
