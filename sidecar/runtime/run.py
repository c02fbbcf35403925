"""What ``sidecar run`` starts: a supervisor, its workers, and an embedded Redis if there is one.

Everything is imported, and all sockets are bound, before the first worker is forked. So a worker is
ready at once, and shares the memory that it does not write with the others.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from sidecar.config.load import load
from sidecar.config.settings import Settings
from sidecar.config.warnings import ConfigurationWarning
from sidecar.core.errors import UsageError
from sidecar.core.self_check import refuse_broken_re
from sidecar.observability.line_writer import WriteLock
from sidecar.observability.metric_families import Snapshot
from sidecar.observability.stderr_log import StderrFormatter, StderrLines
from sidecar.runtime.addresses import addresses_of, bind_for, grant_access
from sidecar.runtime.build import build_listening_tls, build_rules
from sidecar.runtime.listeners import preload
from sidecar.runtime.parts import (
    EmbeddedRedis,
    connect,
    descriptor_warning,
    find_binary,
    open_log,
    refuse_slow_parser,
)
from sidecar.runtime.reload import log_warnings
from sidecar.runtime.serve import Worker, serve
from sidecar.runtime.start_report import describe_start
from sidecar.store.embedded_data import has_data, refuse_left_behind
from sidecar.wire.descriptors import raise_limit
from sidecar.wire.listening import Slots, close_all, extend
from sidecar.workers.channel import encode
from sidecar.workers.inheritance import TRIAL_RUN, Inheritance, adopt_sockets, inherit
from sidecar.workers.service_manager import ServiceManager
from sidecar.workers.supervisor import Supervisor
from sidecar.workers.worker_spec import WorkerSpec

_log = logging.getLogger("sidecar")

_MISUSED: Final = 2


def run(
    settings: Settings,
    source: Path | None = None,
    warnings: Sequence[ConfigurationWarning] = (),
) -> int:
    """Run until SIGTERM or SIGINT; return the exit status. Raises ``UsageError``.

    ``warnings`` about the settings are logged. For a trial run, only try whether this program would
    start.
    """
    _log_to_stderr("")
    raise_limit()
    preload(settings)
    addresses = os.environ.pop(TRIAL_RUN, None)
    if addresses is not None:
        asyncio.run(_try_out(settings, set(json.loads(addresses))))
        return 0
    warning = descriptor_warning(settings)
    if warning is not None:
        _log.warning("%s", warning)
    log_warnings(warnings)
    inherited = inherit(os.environ)
    store = _Store(settings, inherited)
    try:
        for line in describe_start(settings, source, _worker_count(settings)):
            _log.info("%s", line)
        plan = _Plan(settings, source, store.start(), store, inherited)
        return plan.supervise(inherited)
    finally:
        store.stop()


class _Store:
    """The embedded Redis, if the configuration asks for one; it belongs to the supervisor."""

    def __init__(self, settings: Settings, inherited: Inheritance | None) -> None:
        self._url = settings.store.url
        self._directory = settings.data_directory
        self._redis: EmbeddedRedis | None = None
        if inherited is not None and inherited.store is not None:
            self._redis = EmbeddedRedis.adopt(inherited.store)

    def start(self) -> str:
        """Return the URL of the store, once it answers. Raises ``UsageError``."""
        if self._url != "embedded":
            return self._url
        if self._redis is None:
            refuse_left_behind(self._directory, Path.cwd())
            is_new = not has_data(self._directory)
            self._redis = EmbeddedRedis(self._directory)
            asyncio.run(self._redis.start())
            if is_new:
                _log.warning("a new store begins in %s: there are no tokens yet", self._directory)
        return self._redis.url

    def let_go(self) -> None:
        """Leave the store to the supervisor; a worker calls this."""
        if self._redis is not None:
            self._redis.let_go()

    def describe(self) -> dict[str, Any] | None:
        """Describe the store to the next program; ``None`` if it is not embedded."""
        return None if self._redis is None else self._redis.describe()

    def stop(self) -> None:
        """Have the embedded Redis save its data, and end it."""
        if self._redis is not None:
            asyncio.run(self._redis.stop())


class _Plan:
    """Implements ``workers.plan.Plan``."""

    def __init__(
        self,
        settings: Settings,
        source: Path | None,
        store_url: str,
        store: _Store,
        inherited: Inheritance | None,
    ) -> None:
        self.count = _worker_count(settings)
        self._settings = settings
        self._source = source
        self._store_url = store_url
        self._store = store
        self._write_lock = WriteLock(None if inherited is None else inherited.write_lock)

    def supervise(self, inherited: Inheritance | None) -> int:
        """Bind the addresses that were not inherited, and run; return the exit status."""
        addresses = addresses_of(self._settings)
        known = {} if inherited is None else _adopt(inherited)
        wanted = {str(address) for address in addresses.values()}
        for was in [was for was in known if was not in wanted]:
            close_all(known.pop(was))
        sockets: dict[str, Slots] = {}
        for use, address in addresses.items():
            if str(address) in known:
                sockets[use] = known[str(address)]
                extend(sockets[use], self.count)
                grant_access(address, self._settings)
            else:
                sockets[use] = bind_for(use, self._settings, self.count)
        names = {use: str(address) for use, address in addresses.items()}
        gc.collect()
        gc.freeze()  # a worker's collector would write to shared pages, and so copy them
        return Supervisor(self, sockets, names, ServiceManager(os.environ), inherited).run()

    @property
    def drain_seconds(self) -> float:
        """How long a worker may take to end under the configuration in force."""
        return self._settings.drain.delay + self._settings.drain.timeout

    def work(self, spec: WorkerSpec) -> int:
        """Serve until asked to end. Report to the supervisor what prevents the start."""
        self._store.let_go()
        if spec.count > 1:
            _log_to_stderr(f"{spec.name}: ")
        worker = Worker(spec, self._write_lock, self._store_url)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(self._settings, source=self._source, worker=worker))
        except UsageError as error:
            _log.error("%s", error)
            spec.channel.setblocking(True)
            spec.channel.sendall(encode(("failed", str(error))))
            return _MISUSED
        return 0

    def refresh(self) -> None:
        """Read the file again, as the workers have; keep the old settings if it is invalid now."""
        if self._source is None or not self._source.is_file():
            return
        try:
            self._settings = load(self._source, os.environ)
        except UsageError:
            _log.info(
                "configuration %s has become invalid: new workers start with the last valid one",
                self._source,
            )

    def measure(self) -> Snapshot:
        """Return what the operating system reports about the supervisor's process."""
        from sidecar.operations.exposition import read_process

        return read_process()

    def describe_store(self) -> Mapping[str, Any] | None:
        """Describe the embedded store to the next program; ``None`` if there is none."""
        return self._store.describe()

    @property
    def write_lock(self) -> int:
        """The descriptor of the lock that writers of the access log share."""
        return self._write_lock.descriptor


def _adopt(inherited: Inheritance) -> dict[str, Slots]:
    """Return the sockets of the program before this one, by their addresses."""
    return {address: adopt_sockets(slots) for address, slots in inherited.sockets.values()}


def _worker_count(settings: Settings) -> int:
    if settings.workers != "auto":
        return settings.workers
    return len(os.sched_getaffinity(0))


async def _try_out(settings: Settings, bound: set[str]) -> None:
    """Make all parts, and bind all addresses but those ``bound`` by the running program.

    Leave no trace. Raises ``UsageError``.
    """
    refuse_slow_parser()
    refuse_broken_re()
    loop = asyncio.get_running_loop()
    build_rules(settings, loop)
    build_listening_tls(settings)
    if settings.store.url == "embedded":
        find_binary()
        refuse_left_behind(settings.data_directory, Path.cwd())
    else:
        await connect(settings.store.url, prefix=settings.store.prefix).close()
    log = open_log(settings, loop)
    if log is not None:
        log.close()
    for use, address in addresses_of(settings).items():
        if str(address) not in bound:
            close_all(bind_for(use, settings, 1))


def _log_to_stderr(prefix: str) -> None:
    handler = StderrLines()
    handler.setFormatter(StderrFormatter(f"%(levelname)s {prefix}%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
