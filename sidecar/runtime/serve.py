"""The life of one process: open the parts, accept connections, wait for the end, drain.

``run`` decides how many processes there are.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sidecar.config.settings import Settings
from sidecar.core.self_check import refuse_broken_re
from sidecar.observability.fault_log import log_unhandled
from sidecar.observability.line_writer import WriteLock
from sidecar.operations.health import Health
from sidecar.proxy.gateway import Gateway
from sidecar.runtime.certificate_watch import watch_certificates
from sidecar.runtime.listeners import make_listeners, open_operations, open_portal
from sidecar.runtime.parts import (
    ProcessParts,
    open_process_parts,
    reachable_store,
    refuse_slow_parser,
)
from sidecar.runtime.reload import Reloader
from sidecar.runtime.start_report import describe_store
from sidecar.runtime.store_watch import StoreWatch
from sidecar.runtime.swap import ConfiguredParts
from sidecar.runtime.worker_agent import Shutdown, WorkerAgent
from sidecar.wire.listening import Listeners
from sidecar.workers.worker_client import WorkerClient
from sidecar.workers.worker_spec import WorkerSpec

_log = logging.getLogger("sidecar")

_STALE_SWEEP_SECONDS: Final = 2.0
_COLLECTOR_THRESHOLDS: Final = (50_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker receives from its supervisor; a lone process makes these things itself."""

    spec: WorkerSpec
    write_lock: WriteLock
    store_url: str = field(repr=False)


async def serve(
    settings: Settings,
    *,
    source: Path | None = None,
    ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
    worker: Worker | None = None,
) -> None:
    """Serve under ``settings`` until ``stop`` is set, then drain.

    ``source`` is the file that the settings were read from; its changes are applied as they come.
    ``ready`` is called once, when connections are accepted. A ``worker`` also ends at its
    supervisor's request and on signals. Raises ``UsageError`` if a part can't start.
    """
    refuse_slow_parser()
    refuse_broken_re()
    asyncio.get_running_loop().set_exception_handler(log_unhandled)
    reloader = _make_reloader(source, settings, worker)
    shutdown = Shutdown(stop or asyncio.Event())
    async with AsyncExitStack() as stack:
        url, processes = (worker.store_url, worker.spec.count) if worker else ("", 1)
        url = url or await stack.enter_async_context(reachable_store(settings))
        parts = await open_process_parts(settings, url, processes, stack)
        configured = ConfiguredParts(settings, parts, worker.write_lock if worker else None)
        stack.push_async_callback(configured.close)
        configured.expose_metrics(reloader)
        listeners = make_listeners(settings, worker.spec if worker else None)
        stack.callback(listeners.close_all)
        health = Health(parts.store.ping, shutdown.requested.is_set)
        configured.gateway.why_not_ready = health.why_not_ready
        client = None
        if worker is not None:
            client = await _join(
                worker.spec, configured, health, reloader, shutdown, listeners, stack
            )
        if settings.operations is not None:
            await open_operations(configured, health, reloader, listeners, client, stack)
        if settings.portal is not None:
            await open_portal(configured, parts, listeners, stack)
        configured.share_descriptors()
        await listeners.open_with("proxy", configured.accept)
        is_first = worker is None or worker.spec.slot == 0
        for task in _background_tasks(parts, configured, reloader, logs_details=is_first):
            stack.callback(asyncio.create_task(task).cancel)
        if worker is not None and worker.spec.slot == 0:
            store = describe_store(settings)
            watch = StoreWatch(parts.store.ping, store, settings.store.outage_grace)
            stack.callback(asyncio.create_task(watch.run()).cancel)
        _relax_collector()
        if client is not None:
            client.send("ready")
        if ready is not None:
            ready()
        await shutdown.requested.wait()
        await _drain(configured, listeners, shutdown, client)


async def _join(
    spec: WorkerSpec,
    configured: ConfiguredParts,
    health: Health,
    reloader: Reloader | None,
    shutdown: Shutdown,
    listeners: Listeners,
    stack: AsyncExitStack,
) -> WorkerClient:
    """Connect to the supervisor, and handle signals, until ``stack`` unwinds."""
    agent = WorkerAgent(
        configured.metrics.snapshot, configured.reopen_log, health, reloader, shutdown
    )
    client = WorkerClient(agent, listeners)
    await client.open(spec)
    stack.push_async_callback(client.close)
    stack.enter_context(agent.on_signals())
    return client


def _background_tasks(
    parts: ProcessParts,
    configured: ConfiguredParts,
    reloader: Reloader | None,
    *,
    logs_details: bool,
) -> list[Coroutine[Any, Any, None]]:
    """Return what runs for as long as the process serves."""
    tasks = [
        _close_idle_upstreams(configured.gateway),
        parts.last_uses.run(),
        configured.throttle.run(),
        parts.revalidation.run(),
    ]
    if logs_details:
        tasks.append(watch_certificates(lambda: configured.settings))
    if reloader is not None:
        reloader.on_applied.append(parts.streams.on_rules_changed)
        tasks.append(reloader.watch(configured.prepare))
    return tasks


async def _drain(
    configured: ConfiguredParts,
    listeners: Listeners,
    shutdown: Shutdown,
    client: WorkerClient | None,
) -> None:
    """Stop accepting connections, and let running requests finish.

    A worker that was replaced skips the delay: its successor is already accepting.
    """
    drain = configured.settings.drain
    server = configured.server
    if shutdown.is_retired:
        listeners.close_all()
    else:
        server.announce_end()
        await asyncio.sleep(drain.delay)
        listeners.close("proxy")
        if client is not None:
            client.send("closed")
    has_preamble = configured.tls is not None or configured.settings.listen.proxy_protocol
    await server.drain(drain.timeout, has_preamble=has_preamble)


def _relax_collector() -> None:
    """Have Python's cycle collector run rarely, and only over objects made from now on.

    A request leaves no cycles behind, and the parts made so far stay until the end.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


async def _close_idle_upstreams(gateway: Gateway) -> None:
    """Close, every few seconds, the upstream connections that have been idle for too long."""
    while True:
        await asyncio.sleep(_STALE_SWEEP_SECONDS)
        for upstream in gateway.rules.upstreams.values():
            upstream.pool.drop_stale()


def _make_reloader(
    source: Path | None, settings: Settings, worker: Worker | None
) -> Reloader | None:
    """Return what follows changes of the file; ``None`` if it can be read only once, as a pipe."""
    if source is None:
        return None
    if not source.is_file():
        _log.warning("configuration %s is not a regular file: its changes are not followed", source)
        return None
    if worker is None:
        return Reloader(source, settings, os.environ)
    spec = worker.spec
    return Reloader(
        source,
        settings,
        os.environ,
        generation=spec.generation,
        refused=spec.refused,
        logs_details=spec.slot == 0,
    )
