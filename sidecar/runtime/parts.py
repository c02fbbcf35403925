"""The composition root: what is made of what. Only this file and ``listeners`` name adapters.

``ProcessParts`` live as long as the process. ``swap`` holds the parts that a new configuration
replaces, and ``serve`` is the life of a process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from aiohttp import http_parser

from sidecar import __version__
from sidecar.auth.hash_pool import HashPool, pool_size
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.auth.throttle import ThrottleLimits
from sidecar.config.settings import Settings
from sidecar.core.errors import UsageError
from sidecar.core.problems import denial_for
from sidecar.observability.access_log import AccessLog
from sidecar.observability.line_writer import WriteLock
from sidecar.proxy.answers import render
from sidecar.proxy.gateway import Gateway
from sidecar.proxy.streams import LiveStreams
from sidecar.runtime.build import build_header_cache, build_limits, shortest_timeout_seconds
from sidecar.store.archive import connect_archive as connect_archive
from sidecar.store.cache import TokenCache
from sidecar.store.counters import connect_counters as connect_counters
from sidecar.store.embedded import EmbeddedRedis as EmbeddedRedis
from sidecar.store.embedded import find_binary as find_binary
from sidecar.store.embedded import find_socket as find_socket
from sidecar.store.memory import MemoryStore as MemoryStore
from sidecar.store.port import TokenStore
from sidecar.store.portal_secret import connect_secret as connect_secret
from sidecar.store.redis import connect as connect
from sidecar.store.revalidation import Revalidation
from sidecar.tokens.last_use import LastUses
from sidecar.wire.descriptors import OWN_DESCRIPTORS, DescriptorShares, hard_limit, limit_now
from sidecar.wire.server import ConnectionLimits, ProxyServer

if TYPE_CHECKING:
    from sidecar.observability.span_export import SpanExport

_COMMAND_BUDGET_SECONDS: Final = 2.0  # at a busy machine, an admin would rather wait than retry


@dataclass(frozen=True, slots=True)
class ProcessParts:
    """The parts that live as long as the process, whatever the configuration in force."""

    store_url: str = field(repr=False)
    store: TokenStore
    cache: TokenCache
    revalidation: Revalidation
    passwords: PasswordVerifier
    last_uses: LastUses
    streams: LiveStreams


async def open_process_parts(
    settings: Settings, store_url: str, processes: int, stack: AsyncExitStack
) -> ProcessParts:
    """Open the parts of one of ``processes`` processes; ``stack`` closes them."""
    cache = build_cache(settings)
    streams = LiveStreams(cache)
    stack.push_async_callback(streams.close)
    revalidation = Revalidation(cache)
    watchers = _Watchers(cache, streams, revalidation)
    store = connect(store_url, prefix=settings.store.prefix, watcher=watchers)
    stack.push_async_callback(store.close)
    cache.connect(store.fetch, store.read)
    hashing = HashPool(pool_size(processes))
    stack.push_async_callback(hashing.close)
    passwords = PasswordVerifier(hashing.verify, hashing.size)
    stack.callback(passwords.close)
    last_uses = LastUses(store.record_use)
    stack.push_async_callback(last_uses.close)
    return ProcessParts(store_url, store, cache, revalidation, passwords, last_uses, streams)


class _Watchers:
    """Passes changes of tokens on: to the cache first, then to the streams, which read it."""

    def __init__(self, cache: TokenCache, streams: LiveStreams, revalidation: Revalidation) -> None:
        self._cache = cache
        self._streams = streams
        self._revalidation = revalidation

    def on_watching(self) -> None:
        self._revalidation.begin()  # before the cache drops entries that it may not serve any more
        self._cache.on_watching()
        self._streams.on_tokens_changed(None)  # changes made in the meantime were missed

    def on_changed(self, digests: Sequence[str] | None) -> None:
        self._cache.on_changed(digests)
        self._streams.on_tokens_changed(digests)

    def on_heard(self, age_seconds: float) -> None:
        self._cache.on_heard(age_seconds)

    def on_blind(self) -> None:
        self._cache.on_blind()


def refuse_slow_parser() -> None:
    """Raise ``UsageError`` unless aiohttp has its C parser: the one in Python is lenient."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise UsageError(
            "aiohttp runs without its C extensions: "
            "unset AIOHTTP_NO_EXTENSIONS, or install a wheel of aiohttp"
        )


@asynccontextmanager
async def reachable_store(settings: Settings) -> AsyncIterator[str]:
    """Yield the URL of the store; an embedded Redis runs until the context ends."""
    if settings.store.url != "embedded":
        yield settings.store.url
        return
    embedded = EmbeddedRedis(settings.data_directory)
    url = await embedded.start()
    try:
        yield url
    finally:
        await embedded.stop()


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[TokenStore]:
    """Open the store of the configuration for the short life of a command."""
    async with reachable_store(settings) as url:
        store = connect(url, prefix=settings.store.prefix, budget_seconds=_COMMAND_BUDGET_SECONDS)
        try:
            yield store
        finally:
            await store.close()


def build_cache(settings: Settings) -> TokenCache:
    """Return the cache of tokens; it keeps none if ``store.cache.tokens`` is 0."""
    store = settings.store
    return TokenCache(
        most_tokens=store.cache.tokens,
        max_age_seconds=store.cache.max_age,
        outage_grace_seconds=store.outage_grace,
    )


def build_server(settings: Settings, gateway: Gateway) -> ProxyServer:
    """Return the server of the proxy's address."""
    return ProxyServer(
        gateway.serve,
        limits=build_limits(settings),
        new_head_cache=build_header_cache(settings).for_connection,
        connection_limits=_connection_limits(settings),
        too_many=lambda: render(denial_for("overloaded"), gateway.new_id(), closes=True),
    )


def apply_limits(server: ProxyServer, settings: Settings) -> None:
    """Apply the limits of a new configuration to a running server."""
    server.use_limits(build_limits(settings), build_header_cache(settings).for_connection)
    server.use_connection_limits(_connection_limits(settings))


def descriptor_shares(settings: Settings, own: int = OWN_DESCRIPTORS) -> DescriptorShares:
    """Return who may have how many descriptors; ``own`` are open before the first caller."""
    upstreams = sum(upstream.max_connections for upstream in settings.upstreams.values())
    return DescriptorShares(limit_now(), own, upstreams)


def descriptor_warning(settings: Settings) -> str | None:
    """Return a warning if the limit of open files, raised as far as it may be, is too small for
    ``limits.connections``; it has the numbers.
    """
    callers, most = settings.limits.connections, hard_limit()
    shares = replace(descriptor_shares(settings), limit=most)
    if shares.callers >= callers:
        return None
    return (
        f"limits.connections is {callers}, and the limit of {most} open files leaves room for "
        f"about {shares.callers} callers at once; others wait. Upstreams may take "
        f"{shares.upstreams} more, and {shares.own + shares.kept} are the process's own: raise "
        f"the hard limit to "
        f"{shares.needed_for(callers)} (ulimit -Hn, LimitNOFILE=), or lower limits.connections"
    )


def _connection_limits(settings: Settings) -> ConnectionLimits:
    limits = settings.limits
    return ConnectionLimits(
        max_connections=limits.connections,
        max_connections_per_address=limits.connections_per_address,
        header_timeout_seconds=limits.header_timeout,
        idle_timeout_seconds=limits.idle_timeout,
        shortest_timeout_seconds=shortest_timeout_seconds(settings),
    )


def throttle_limits(settings: Settings) -> ThrottleLimits:
    """Return the number of failures after which the throttle bans, and the length of a ban."""
    throttle = settings.throttle
    return ThrottleLimits(throttle.failures, throttle.window, throttle.ban)


def open_log(
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    write_lock: WriteLock | None = None,
) -> AccessLog | None:
    """Return the access log; ``None`` if it is disabled. Raises ``UsageError``."""
    if not settings.access_log.enabled:
        return None
    return AccessLog(settings.access_log.path, settings.tokens.prefix, loop, write_lock)


def open_spans(settings: Settings) -> SpanExport | None:
    """Return the export of spans; ``None`` unless the configuration names an endpoint."""
    tracing = settings.tracing
    if tracing.endpoint is None:
        return None
    from sidecar.observability.span_export import SpanExport  # slow to import: OpenTelemetry

    return SpanExport(tracing.endpoint, tracing.headers, tracing.service_name, __version__)
