"""What a supervisor runs: how many workers, what each of them does, what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sidecar.observability.metric_families import Snapshot
from sidecar.workers.worker_spec import WorkerSpec


class Plan(Protocol):
    """What the supervisor needs to know of the program that it runs."""

    count: int
    """The number of workers."""

    @property
    def drain_seconds(self) -> float:
        """How long a worker may take to end under the configuration in force."""

    def work(self, spec: WorkerSpec) -> int:
        """Run a worker in the process that was forked for it; return its exit status."""

    def refresh(self) -> None:
        """Start later workers with the configuration that the running ones have applied."""

    def measure(self) -> Snapshot:
        """Return what the operating system reports about this process."""

    @property
    def write_lock(self) -> int:
        """The descriptor of the lock that writers of the access log share."""

    def describe_store(self) -> Mapping[str, Any] | None:
        """Describe the embedded store to the next program; ``None`` if there is none."""
