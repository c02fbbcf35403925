"""An upgrade replaces the program only after a trial run of the new one has passed."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import NoReturn

import pytest

from sidecar.core.errors import UsageError
from sidecar.workers import trial_run, upgrade
from sidecar.workers.inheritance import TRIAL_RUN, Inheritance
from sidecar.workers.service_manager import ServiceManager
from sidecar.workers.service_status import ServiceStatus
from sidecar.workers.trial_run import TrialRun
from sidecar.workers.upgrade import Upgrade

PATIENCE_SECONDS = 30.0
NOTHING = Inheritance({}, [], {}, 1, 0, -1, None)


class Replaced(Exception):
    """The program was replaced."""


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have a trial run execute ``program``, in Python."""
    monkeypatch.setattr(trial_run, "own_command", lambda: [sys.executable, "-c", program])


def wait_for(trial: TrialRun) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not trial.has_passed(0.0, is_cut_short=False):
        assert time.monotonic() < end, "the trial run did not end"
        time.sleep(0.01)


def test_a_trial_run_that_exits_with_0_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given the addresses that the running program listens on."""
    expected = json.dumps(["127.0.0.1:8080"])
    run_instead(monkeypatch, f"import os, sys; sys.exit(os.environ['{TRIAL_RUN}'] != {expected!r})")
    trial = TrialRun(["127.0.0.1:8080"])
    trial.start(0.0)
    wait_for(trial)
    was_under_way = trial.is_under_way
    trial.finish()
    assert (was_under_way, trial.is_under_way) == (True, False)
    assert TRIAL_RUN not in os.environ


def test_a_trial_run_that_exits_otherwise_has_failed_with_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_instead(monkeypatch, "raise SystemExit(2)")
    trial = TrialRun([])
    trial.start(0.0)
    with pytest.raises(UsageError, match=r"^does not start \(exit status 2\)$"):
        wait_for(trial)
    assert not trial.is_under_way


@pytest.mark.parametrize(("now", "is_cut_short"), [(61.0, False), (0.0, True)])
def test_a_trial_run_that_takes_too_long_or_is_cut_short_is_killed(
    monkeypatch: pytest.MonkeyPatch, now: float, is_cut_short: bool
) -> None:
    run_instead(monkeypatch, "import time; time.sleep(600)")
    trial = TrialRun([])
    trial.start(0.0)
    with pytest.raises(UsageError, match="SIGKILL"):
        trial.has_passed(now, is_cut_short=is_cut_short)
    assert not trial.is_under_way


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    """Return an upgrade that raises ``Replaced`` where it would replace the program."""

    def replace(inheritance: Inheritance) -> NoReturn:
        assert inheritance is NOTHING
        raise Replaced

    monkeypatch.setattr(upgrade, "replace_program", replace)
    service = ServiceStatus(ServiceManager({}), 1, lambda: 1)
    return Upgrade([], service, lambda: NOTHING)


def advance(subject: Upgrade, *, is_quiet: bool = True) -> None:
    """Advance until the upgrade is over, or for half a second while it must not end."""
    end = time.monotonic() + (PATIENCE_SECONDS if is_quiet else 0.5)
    while subject.is_under_way and time.monotonic() < end:
        subject.advance(0.0, is_stopping=False, is_quiet=lambda: is_quiet)
        time.sleep(0.01)


def test_the_program_is_replaced_once_no_worker_depends_on_the_old_one(
    monkeypatch: pytest.MonkeyPatch, subject: Upgrade
) -> None:
    run_instead(monkeypatch, "")
    subject.begin(0.0)
    advance(subject, is_quiet=False)
    assert subject.is_under_way
    with pytest.raises(Replaced):
        advance(subject)


def test_a_program_that_does_not_start_is_refused_with_the_reason_in_the_log(
    monkeypatch: pytest.MonkeyPatch, subject: Upgrade, caplog: pytest.LogCaptureFixture
) -> None:
    run_instead(monkeypatch, "raise SystemExit(2)")
    subject.begin(0.0)
    advance(subject)
    assert not subject.is_under_way
    assert caplog.messages[-1] == (
        "upgrade: the program that is installed now does not start (exit status 2); "
        "keeping this one"
    )


def test_a_program_that_can_not_be_executed_is_refused(
    monkeypatch: pytest.MonkeyPatch, subject: Upgrade, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trial_run, "own_command", lambda: ["/nowhere/at/all"])
    subject.begin(0.0)
    assert not subject.is_under_way
    assert "can't be started: No such file or directory; keeping this one" in caplog.text
