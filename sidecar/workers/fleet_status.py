"""What is known of all workers together: the sum of their counts, and who is ready.

A worker that needs the whole picture for a page asks for it (``status_poll``). The counts of
workers that have ended stay in the sum (``totals``).
"""

from __future__ import annotations

from sidecar.observability.metric_families import Snapshot
from sidecar.workers.fleet import Fleet
from sidecar.workers.inheritance import Inheritance, InheritedWorker
from sidecar.workers.overview import Overview, WorkerReport, join_configurations
from sidecar.workers.plan import Plan
from sidecar.workers.restarts import Restarts
from sidecar.workers.status_poll import (
    Reports,
    StatusPoll,
    StatusRequest,
    count_ready,
    current_of,
    reasons_of,
)
from sidecar.workers.totals import Totals
from sidecar.workers.worker_process import WorkerProcess


class FleetStatus:
    """Sums up what the workers of ``fleet`` report, and answers those that ask.

    ``inherited`` is what the program before this one knew. ``generation`` and ``refused`` are those
    of the configuration in force; ``plan`` is refreshed when a worker has applied a newer one.
    """

    def __init__(
        self, plan: Plan, fleet: Fleet, restarts: Restarts, inherited: Inheritance | None
    ) -> None:
        self._plan = plan
        self._fleet = fleet
        self._restarts = restarts
        self._totals = Totals(inherited.gone if inherited else None)
        self._poll = StatusPoll(fleet.workers.values, fleet.send, self._answer)
        self.generation = inherited.generation if inherited else 1
        self.refused = inherited.refused if inherited else 0

    @property
    def is_idle(self) -> bool:
        """Whether no worker is waiting for an answer."""
        return self._poll.is_idle

    def learn(self, worker: WorkerProcess, snapshot: Snapshot) -> None:
        """Record what a worker has counted so far."""
        self._totals.learn(worker.number, snapshot)
        self.refused = int(self._totals.largest("sidecar_configuration_refused_total"))
        generation = int(self._totals.largest("sidecar_configuration_generation"))
        if generation > self.generation:
            self.generation = generation
            self._plan.refresh()

    def restore(self, worker: WorkerProcess, snapshot: Snapshot) -> None:
        """Record what an inherited worker had counted."""
        self._totals.learn(worker.number, snapshot)

    def forget(self, worker: WorkerProcess) -> None:
        """Note that a worker has ended; what it counted stays in the sum."""
        self._totals.forget(worker.number)
        self._poll.forget(worker)

    def ask(self, worker: WorkerProcess, number: int) -> None:
        """Poll all workers for ``worker``, which gave its question this number."""
        self._poll.ask(StatusRequest(worker, number))

    def note_report(self, worker: WorkerProcess, report: WorkerReport) -> None:
        """Record a worker's answer to the poll."""
        self.learn(worker, report.snapshot)
        self._poll.note(worker, report)

    def end_poll_if_over(self) -> None:
        """Answer without the workers that have not reported in time."""
        self._poll.end_if_over()

    def inherited_workers(self) -> list[InheritedWorker]:
        """Describe the workers and their counts to the next program."""
        return [
            InheritedWorker.of(worker, self._totals.known(worker.number)) for worker in self._fleet
        ]

    def inherited_counts(self) -> Snapshot:
        """Return the counts that belong to no running worker, for the next program."""
        return self._totals.gone_with(self._restarts_snapshot())

    def _answer(self, requests: list[StatusRequest], reports: Reports) -> None:
        overview = self._overview(reports)
        for worker, number in requests:
            self._fleet.send(worker, "told", number, *overview)

    def _overview(self, reports: Reports) -> Overview:
        slots = self._restarts.slots
        current = current_of(self._fleet)
        ready = count_ready(slots, current, reports)
        own: Snapshot = {
            **self._plan.measure(),
            **self._restarts_snapshot(),
            "sidecar_workers": {(): float(ready)},
        }
        known = [reports[w.number].configuration for w in current.values() if w.number in reports]
        return Overview(
            self._totals.sum([own]),
            reasons_of(slots, current, reports),
            join_configurations(known),
            ready,
            self._plan.count,
        )

    def _restarts_snapshot(self) -> Snapshot:
        return {"sidecar_worker_restarts_total": {(): float(self._restarts.total)}}
