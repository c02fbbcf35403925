"""How the supervisor handles events that come in one tick of its loop."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.observability.metric_families import Snapshot
from sidecar.workers.channel import WorkerChannel
from sidecar.workers.service_manager import ServiceManager
from sidecar.workers.supervisor import Supervisor
from sidecar.workers.worker_process import WorkerProcess
from sidecar.workers.worker_spec import WorkerSpec

PATIENCE_SECONDS = 10.0


class NoWorkers:
    """A plan without workers."""

    count = 0
    drain_seconds = 1.0
    write_lock = -1

    def work(self, spec: WorkerSpec) -> int:
        raise AssertionError("there are no workers")

    def refresh(self) -> None:
        """Do nothing: there are no later workers."""

    def measure(self) -> Snapshot:
        return {}

    def describe_store(self) -> Mapping[str, Any] | None:
        return None


@pytest.mark.parametrize("has_last_words", [False, True])
def test_a_worker_and_its_channel_may_end_in_one_tick(has_last_words: bool) -> None:
    """The signal is handled first; the event that the selector still holds does no harm."""
    supervisor = Supervisor(NoWorkers(), {}, {"proxy": "here"}, ServiceManager({}))
    ours, theirs = socket.socketpair()
    worker = WorkerProcess(
        os.posix_spawn("/bin/true", ["true"], {}), 0, 0, WorkerChannel(ours), 0.0, 0.0
    )
    supervisor._fleet.add(worker)
    heard: selectors.SelectorKey = supervisor._selector.get_key(ours)
    if has_last_words:
        theirs.sendall(b"\x05\x00\x00\x00words")
    theirs.close()
    supervisor._stop()
    end = time.monotonic() + PATIENCE_SECONDS
    while supervisor._fleet.workers:
        assert time.monotonic() < end, "the end was not noticed"
        supervisor._reap()
    heard.data()
    supervisor._fleet.send(worker, "slots", ())
    assert not supervisor._fleet.workers
    assert ours.fileno() == -1
