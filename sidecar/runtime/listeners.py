"""The listeners beside the proxy's: operations (health, metrics, decisions) and the portal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from sidecar.config.settings import Settings
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.listener import operations_app, operations_runner
from sidecar.runtime.addresses import addresses_of, bind_for
from sidecar.runtime.parts import ProcessParts, connect_secret, descriptor_shares
from sidecar.runtime.reload import Reloader
from sidecar.runtime.swap import ConfiguredParts
from sidecar.wire.listening import Listeners
from sidecar.workers.worker_client import WorkerClient
from sidecar.workers.worker_spec import WorkerSpec


def make_listeners(settings: Settings, spec: WorkerSpec | None) -> Listeners:
    """Return the listeners of a worker, or bind those of a lone process. Raises ``UsageError``."""
    if spec is not None:
        return Listeners(spec.sockets, spec.slot)
    return Listeners({use: bind_for(use, settings, 1) for use in addresses_of(settings)}, 0)


async def open_operations(
    configured: ConfiguredParts,
    health: Health,
    reloader: Reloader | None,
    listeners: Listeners,
    client: WorkerClient | None,
    stack: AsyncExitStack,
) -> None:
    """Serve health, metrics, keys and the decision endpoint until ``stack`` unwinds."""

    def describe() -> Mapping[str, Any]:
        assert reloader is not None
        return reloader.state.describe()

    app = operations_app(
        health,
        None if reloader is None else describe,
        lambda: configured.gateway.rules.jwt.key_set,
        configured.metrics.collect,
        Decisions(configured.gateway, configured.write_entry),
        None if client is None else client.ask,
    )
    most = descriptor_shares(configured.settings).operations
    await _open("operations", operations_runner(app, most), listeners, stack)


async def open_portal(
    configured: ConfiguredParts, parts: ProcessParts, listeners: Listeners, stack: AsyncExitStack
) -> None:
    """Serve the API-keys page and the token API until ``stack`` unwinds."""
    from sidecar.portal.app import portal_app  # slow to import: templates
    from sidecar.portal.runner import PortalRunner

    secret = connect_secret(parts.store_url, prefix=configured.settings.store.prefix)
    stack.push_async_callback(secret.close)
    app = portal_app(
        lambda: configured.portal_config,
        parts.passwords,
        throttle=configured.throttle,
        audit=configured.audit,
        secret=secret.read,
    )
    most = descriptor_shares(configured.settings).portal
    await _open("portal", PortalRunner(app, most), listeners, stack)


async def _open(
    use: str, runner: web.AppRunner, listeners: Listeners, stack: AsyncExitStack
) -> None:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    await listeners.open(use, runner.server)
    stack.callback(listeners.close, use)


def preload(settings: Settings) -> None:
    """Import now what is otherwise imported on first use, so that forked workers share it."""
    import sidecar.operations.exposition

    if settings.portal is not None:
        import sidecar.portal.app
        import sidecar.portal.runner  # noqa: F401
