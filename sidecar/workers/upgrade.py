"""How the program in this process is replaced by the one that is installed now.

The process stays, and with it its id, its children and its sockets (``inheritance``). No old
program remains to go back to, so a trial run comes first: a program that would not start is
refused, and this one continues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from sidecar.core.errors import UsageError
from sidecar.workers.inheritance import Inheritance, replace_program
from sidecar.workers.service_status import ServiceStatus
from sidecar.workers.signal_watch import blocked
from sidecar.workers.trial_run import TrialRun

_log = logging.getLogger("sidecar")


class Upgrade:
    """One upgrade at a time. ``bequeath`` returns what the new program is to inherit."""

    def __init__(
        self,
        addresses: Iterable[str],
        service: ServiceStatus,
        bequeath: Callable[[], Inheritance],
    ) -> None:
        self._trial_run = TrialRun(addresses)
        self._service = service
        self._bequeath = bequeath

    @property
    def is_under_way(self) -> bool:
        """Whether an upgrade has begun, and was neither refused nor completed."""
        return self._trial_run.is_under_way

    def begin(self, now: float) -> None:
        """Start the trial run of the program that is installed now."""
        _log.info("upgrade: trying out the program that is installed now")
        self._service.busy("upgrading")
        try:
            self._trial_run.start(now)
        except UsageError as error:
            self._refuse(error)

    def advance(self, now: float, *, is_stopping: bool, is_quiet: Callable[[], bool]) -> None:
        """Replace the program once its trial run has passed and ``is_quiet`` allows it.

        A supervisor that ``is_stopping`` cuts the trial run short. Does not return after a
        replacement.
        """
        try:
            has_passed = self._trial_run.has_passed(now, is_cut_short=is_stopping)
            if has_passed and is_quiet():
                self._replace()
        except UsageError as error:
            self._refuse(error)

    def _replace(self) -> None:
        self._trial_run.finish()
        _log.info("upgrade: replacing this program by the one that is installed now")
        with blocked():  # until the new program can handle signals
            replace_program(self._bequeath())

    def _refuse(self, why: UsageError) -> None:
        _log.error("upgrade: the program that is installed now %s; keeping this one", why)
        self._service.ready()
