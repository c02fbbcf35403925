"""The composition root: a configuration in, running parts out. The one file that names every
adapter.

``serve`` is the life of one process: store, gateway, listeners, then a stop signal and the drain.
``_Running`` holds what another configuration replaces while it lives. How many processes there are
is up to ``processes``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Final

from aiohttp import http_parser, web

from sidecar import __version__
from sidecar.auth.authenticator import Authenticator
from sidecar.auth.hash_pool import HashPool, pool_size
from sidecar.auth.jwt_verifier import JwtVerifier
from sidecar.auth.password_auth import PasswordAuth
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.auth.throttle import Throttle, ThrottleLimits
from sidecar.config import settings as configured
from sidecar.core.errors import UsageError
from sidecar.core.self_check import refuse_broken_re
from sidecar.observability.access_log import AccessLog, Entry
from sidecar.observability.audit import AuditLog
from sidecar.observability.fault_log import log_stray
from sidecar.observability.line_writer import WriteTurn
from sidecar.observability.metrics import SPAN_RESULTS, Metrics
from sidecar.observability.stderr_log import write_at_once
from sidecar.operations.app import operations_app, operations_runner
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.portal.parts import Terms
from sidecar.proxy.answers import denial_for, render
from sidecar.proxy.gateway import Gateway
from sidecar.proxy.rules import Rules
from sidecar.proxy.streams import LiveStreams
from sidecar.runtime.addresses import addresses_of, bind_for
from sidecar.runtime.build import build_accounts as build_accounts
from sidecar.runtime.build import (
    build_jwt,
    build_limits,
    build_listening_tls,
    reaches_alike,
    shortest_timeout_seconds,
)
from sidecar.runtime.build import build_rules as build_rules
from sidecar.runtime.reload import Change, Commit, Reloader
from sidecar.runtime.signing import signer_of
from sidecar.runtime.worker_agent import Duties, Ending
from sidecar.store.archive import connect_archive as connect_archive
from sidecar.store.cache import TokenCache
from sidecar.store.counters import connect_counters as connect_counters
from sidecar.store.embedded import EmbeddedRedis as EmbeddedRedis
from sidecar.store.embedded import find_socket as find_socket
from sidecar.store.port import TokenStore
from sidecar.store.portal_secret import connect_secret
from sidecar.store.redis import connect
from sidecar.store.revalidation import Revalidation
from sidecar.tokens.last_use import LastUses
from sidecar.tokens.lifecycle import Lifecycle
from sidecar.wire.accepting import Acceptor
from sidecar.wire.dialing import Dialer
from sidecar.wire.listening import Doors
from sidecar.wire.listening_tls import ListeningTls
from sidecar.wire.pool import Pool
from sidecar.wire.server import ProxyServer
from sidecar.workers.member import Member
from sidecar.workers.place import Place

if TYPE_CHECKING:
    from sidecar.observability.span_export import SpanExport

_log = logging.getLogger("sidecar")

DATA_DIRECTORY: Final = Path("data")
_STALE_SWEEP_SECONDS: Final = 2.0
_COMMAND_BUDGET_SECONDS: Final = 2.0  # an admin at a busy machine would rather wait than retry
_COLLECTOR_THRESHOLDS: Final = (50_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs: told to whoever waits for readiness."""

    settings: configured.Settings
    gateway: Gateway
    server: ProxyServer
    reloader: Reloader | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker is given, and a process alone makes for itself."""

    place: Place
    turn: WriteTurn
    store_url: str = field(repr=False)


async def serve(
    settings: configured.Settings,
    *,
    source: Path | None = None,
    ready: Callable[[Serving], None] | None = None,
    stop: asyncio.Event | None = None,
    worker: Worker | None = None,
) -> None:
    """Run everything that one configuration names until ``stop`` is set, then drain.

    ``source`` is the file that the settings were read from: its changes are applied as they come.
    A ``worker`` minds its supervisor and signals. Raises ``UsageError`` when something can't start.
    """
    refuse_slow_parser()
    refuse_broken_re()
    asyncio.get_running_loop().set_exception_handler(log_stray)
    reloader = _follow(source, settings, worker)
    ending = Ending(stop or asyncio.Event())
    async with AsyncExitStack() as stack:
        cache = build_cache(settings)
        streams = LiveStreams(cache)
        stack.push_async_callback(streams.close)
        revalidation = Revalidation(cache)
        watchers = _Watchers(cache, streams, revalidation)
        url = worker.store_url if worker else await stack.enter_async_context(reached(settings))
        store = connect(url, prefix=settings.store.prefix, watcher=watchers)
        stack.push_async_callback(store.close)
        cache.connect(store.fetch, store.read)
        hashing = HashPool(pool_size(worker.place.count if worker else 1))
        stack.push_async_callback(hashing.close)
        sign_in = PasswordVerifier(hashing.verify, hashing.size)
        last_uses = LastUses(store.record_use)
        parts = _Parts(url, store, cache, revalidation, sign_in, last_uses, streams)
        await _serve_with(settings, parts, stack, reloader, ready, ending, worker)


class _Watchers:
    """Tells of changes to tokens: first what is believed, then what goes on because of it."""

    def __init__(self, cache: TokenCache, streams: LiveStreams, revalidation: Revalidation) -> None:
        self._cache = cache
        self._streams = streams
        self._revalidation = revalidation

    def on_watching(self) -> None:
        self._revalidation.begin()  # before the cache drops what can't serve any more
        self._cache.on_watching()
        self._streams.on_tokens_changed(None)  # whatever happened meanwhile was not heard

    def on_changed(self, digests: Sequence[str] | None) -> None:
        self._cache.on_changed(digests)
        self._streams.on_tokens_changed(digests)

    def on_heard(self, age_seconds: float) -> None:
        self._cache.on_heard(age_seconds)

    def on_blind(self) -> None:
        self._cache.on_blind()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What lives as long as the process, whatever the configuration says."""

    store_url: str = field(repr=False)
    store: TokenStore
    cache: TokenCache
    revalidation: Revalidation
    sign_in: PasswordVerifier
    last_uses: LastUses
    streams: LiveStreams


async def _serve_with(
    settings: configured.Settings,
    parts: _Parts,
    stack: AsyncExitStack,
    reloader: Reloader | None,
    ready: Callable[[Serving], None] | None,
    ending: Ending,
    worker: Worker | None,
) -> None:
    stack.callback(parts.sign_in.close)
    stack.push_async_callback(parts.last_uses.close)
    running = _Running(settings, parts, worker.turn if worker else None)
    stack.push_async_callback(running.close)
    health = Health(parts.store.ping, ending.asked.is_set)
    running.follow_parts(reloader)
    doors = _doors(settings, worker)
    stack.callback(doors.close_all)
    member = None
    if worker is not None:
        duties = Duties(running.metrics.snapshot, running.reopen_log, health, reloader, ending)
        member = Member(duties, doors)
        await member.open(worker.place)
        stack.push_async_callback(member.close)
        stack.enter_context(duties.on_signals())
    await _open_operations(settings, health, reloader, running, doors, member, stack)
    tasks = [_drop_stale(running.gateway), parts.last_uses.run(), running.throttle.run()]
    tasks.append(parts.revalidation.run())
    if settings.portal is not None:
        await _open_portal(settings, parts, running, doors, stack)
    await doors.open_by("proxy", running.accept)
    if reloader is not None:
        reloader.on_applied.append(parts.streams.on_rules_changed)
        tasks.append(reloader.watch(running.prepare))
    for task in map(asyncio.create_task, tasks):
        stack.callback(task.cancel)
    _rest_collector()
    if member is not None:
        member.tell("ready")
    if ready is not None:
        ready(Serving(settings, running.gateway, running.server, reloader))
    await ending.asked.wait()
    await _end(running, doors, ending, member)


async def _end(running: _Running, doors: Doors, ending: Ending, member: Member | None) -> None:
    """Accept nothing more and let finish what runs; who was replaced need not warn anyone."""
    drain = running.settings.drain
    server = running.server
    if ending.is_retired:
        doors.close_all()
    else:
        server.announce_end()
        await asyncio.sleep(drain.delay)
        doors.close("proxy")
        if member is not None:
            member.tell("closed")
    await server.drain(drain.timeout, has_tls=running.tls is not None)


def _rest_collector() -> None:
    """Let Python's cycle collector look at what is new, and rarely.

    A request leaves no cycles behind; what the start has made stays for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


class _Running:
    """The parts that serve, and how a configuration is put in the place of another.

    ``prepare`` makes whatever can fail, in a thread; what it returns swaps it in at one stroke.
    """

    def __init__(
        self, settings: configured.Settings, parts: _Parts, turn: WriteTurn | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.settings = settings
        self._turn = turn
        self._dialer = Dialer()  # outlives configurations: what a name was stays known
        rules = build_rules(settings, self._loop, dialer=self._dialer)
        tls = build_listening_tls(settings)
        self.tls = None if tls is None else ListeningTls(tls)
        self._dropped_lines = 0  # by access logs that were replaced
        self._closing: set[asyncio.Task[None]] = set()
        self._log = open_log(settings, self._loop, turn)
        self._spans = _open_spans(settings)
        self._closed_spans: list[SpanExport] = []
        self.metrics = Metrics(__version__)
        self.audit = AuditLog(self._write_audit, lambda name: name in self.gateway.rules.accounts)
        counters = connect_counters(parts.store_url, prefix=settings.store.prefix)
        self.throttle = Throttle(counters, _throttle_limits(settings), self._note_ban)
        callers = Authenticator(parts.cache, PasswordAuth(parts.sign_in, self.throttle, self.audit))
        self.gateway = Gateway(rules, callers, parts.last_uses, parts.streams, self.write_entry)
        rules.jwt.issuers.start()
        self._parts = parts
        self.terms = self._build_terms()
        self.server = _build_server(settings, self.gateway)

    async def accept(self, listener: socket.socket) -> Acceptor:
        """Accept callers' connections from ``listener``."""
        return Acceptor(listener, self.server, self.tls)

    def prepare(self, change: Change) -> Commit:
        """Make what ``change`` needs; return what makes it effective. Raises ``UsageError``."""
        new = change.new
        kept, jwt = self._kept_pools(change), self._jwt_for(change)
        rules = build_rules(new, self._loop, kept, jwt, self._dialer)
        tls = build_listening_tls(new) if _has_other_tls(change) else None
        spans, log = self._spans, self._log
        if change.old.tracing != new.tracing:
            spans = _open_spans(new)
        if _logs_elsewhere(change):
            log = open_log(new, self._loop, self._turn)  # last, as it would have to be closed again

        def commit() -> Rules:
            self.settings = new
            self._swap_rules(rules)
            if tls is not None and self.tls is not None:
                self.tls.current = tls
            _apply_limits(self.server, new)
            self.throttle.limits = _throttle_limits(new)
            self.terms = self._build_terms()
            self._swap_log(log)
            self._swap_spans(spans)
            return rules

        return commit

    async def close(self) -> None:
        """Close the access log, the connections to upstreams and the look-out for foreign keys."""
        await self.throttle.close()
        self.audit.close()
        await self.gateway.rules.jwt.issuers.close()
        for lane in self.gateway.rules.lanes.values():
            lane.pool.close()
        if self._log is not None:
            self._log.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)

    def follow_parts(self, reloader: Reloader | None) -> None:
        """Let the metrics show what the parts know of themselves."""
        from sidecar.operations.exposition import read_process  # takes a while to load

        metrics = self.metrics
        metrics.add_source(read_process)
        metrics.expect(lambda: self.gateway.rules.routes.routes)
        metrics.follow("sidecar_connections", lambda: self.server.open_connections)
        metrics.follow("sidecar_bans_in_force", lambda: self.throttle.bans_in_force)
        metrics.follow("sidecar_live_streams", lambda: len(self._parts.streams))
        self._parts.cache.lookup_seconds = metrics.lookup_seconds
        metrics.follow_cache(self._parts.cache)
        metrics.follow_pools(
            lambda: {name: lane.pool for name, lane in self.gateway.rules.lanes.items()}
        )
        metrics.follow(
            "sidecar_access_log_dropped_total",
            lambda: self._dropped_lines + (0 if self._log is None else self._log.dropped),
        )
        metrics.follow_spans(self._count_spans)
        if reloader is not None:
            metrics.follow_configuration(lambda: reloader.state)

    def _build_terms(self) -> Terms:
        """Return what the portal goes by under the configuration in force."""
        rules = self.gateway.rules
        lifecycle = Lifecycle(
            self._parts.store,
            rules.accounts,
            rules.token_prefix,
            time,
            os.urandom,
            signer_of(self.settings),
        )
        return Terms(
            rules.accounts,
            lifecycle,
            bool(self.settings.jwt.keys),
            rules.expiry_notice_seconds,
            hops=rules,
        )

    def _note_ban(self, network: str | None, account: str | None, seconds: float) -> None:
        self.audit.ban_set(network, account, seconds)
        self.metrics.on_ban(network, account, seconds)

    def reopen_log(self) -> None:
        """Open the file of the log anew: it was moved away."""
        if self._log is not None:
            self._log.reopen()

    def _write_audit(self, lines: bytes, _: int) -> None:
        if self._log is None:
            write_at_once(lines)
        else:
            self._log.write_line(lines.decode())

    def _jwt_for(self, change: Change) -> JwtVerifier:
        """Return the verifier in use, with all it knows, unless keys or issuers are others."""
        current = self.gateway.rules.jwt
        if change.old.jwt == change.new.jwt and not change.has_other_files("jwt"):
            return current
        return build_jwt(change.new, current)

    def _kept_pools(self, change: Change) -> dict[str, Pool]:
        """Return the pools of upstreams that are reached as before, by name."""
        old = change.old.upstreams
        return {
            name: self.gateway.rules.lanes[name].pool
            for name, upstream in change.new.upstreams.items()
            if name in old
            and reaches_alike(old[name], upstream)
            and not change.has_other_files(f"upstreams.{name}.tls")
        }

    def _swap_rules(self, rules: Rules) -> None:
        """Judge by these from now on; requests under way keep theirs, and their connections."""
        kept = {lane.pool for lane in rules.lanes.values()}
        for lane in self.gateway.rules.lanes.values():
            if lane.pool not in kept:
                lane.pool.close()
        before, self.gateway.rules = self.gateway.rules, rules
        if before.jwt is not rules.jwt:
            closing = self._loop.create_task(before.jwt.issuers.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            rules.jwt.issuers.start()

    def _swap_log(self, log: AccessLog | None) -> None:
        old, self._log = self._log, log
        if old is not None and old is not log:
            self._dropped_lines += old.dropped
        if old is not None and old is not log:
            old.flush()
            self._loop.run_in_executor(None, old.close)  # it may wait for a slow disk

    def _swap_spans(self, spans: SpanExport | None) -> None:
        old, self._spans = self._spans, spans
        if old is not None and old is not spans:
            self._closed_spans.append(old)
            self._loop.run_in_executor(None, old.close)  # it waits for the collector

    def _count_spans(self) -> dict[str, int]:
        """Return what became of spans since the start, those of a former configuration included."""
        exports = [*self._closed_spans, *([] if self._spans is None else [self._spans])]
        return {result: sum(getattr(e, result) for e in exports) for result in SPAN_RESULTS}

    def write_entry(self, entry: Entry, now: float) -> None:
        """Note a finished request or decision: in the metrics, in the log, and as a span."""
        self.metrics.observe(entry, now)
        if entry.parent_id is not None and self._spans is not None:
            self._spans.note(entry, now)
        if self._log is not None:
            self._log.write(entry, now)


def _throttle_limits(settings: configured.Settings) -> ThrottleLimits:
    throttle = settings.throttle
    return ThrottleLimits(throttle.failures, throttle.window, throttle.ban)


def _has_other_tls(change: Change) -> bool:
    return change.old.listen.tls != change.new.listen.tls or change.has_other_files("listen.tls")


def _logs_elsewhere(change: Change) -> bool:
    """Tell whether the access log must be opened anew; what it masks depends on the prefix."""
    old, new = change.old, change.new
    return old.access_log != new.access_log or old.tokens.prefix != new.tokens.prefix


def refuse_slow_parser() -> None:
    """Raise ``UsageError`` unless aiohttp's C parser is there: the one in Python is the weaker."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise UsageError(
            "aiohttp runs without its C extensions: "
            "unset AIOHTTP_NO_EXTENSIONS, or install a wheel of aiohttp"
        )


@asynccontextmanager
async def reached(settings: configured.Settings) -> AsyncIterator[str]:
    """Yield the URL of the store; an embedded Redis lives as long as this does."""
    if settings.store.url != "embedded":
        yield settings.store.url
        return
    embedded = EmbeddedRedis(DATA_DIRECTORY)
    url = await embedded.start()
    try:
        yield url
    finally:
        await embedded.stop()


@asynccontextmanager
async def opened_store(settings: configured.Settings) -> AsyncIterator[TokenStore]:
    """Open the store that the configuration names, for a command's short life."""
    async with reached(settings) as url:
        store = connect(url, prefix=settings.store.prefix, budget_seconds=_COMMAND_BUDGET_SECONDS)
        try:
            yield store
        finally:
            await store.close()


def build_cache(settings: configured.Settings) -> TokenCache:
    """Return the cache of tokens; without ``cache.tokens`` it keeps none."""
    store = settings.store
    return TokenCache(
        most_tokens=store.cache.tokens,
        max_age_seconds=store.cache.max_age,
        outage_grace_seconds=store.outage_grace,
    )


def _build_server(settings: configured.Settings, gateway: Gateway) -> ProxyServer:
    limits = settings.limits
    return ProxyServer(
        gateway.serve,
        limits=build_limits(settings),
        credential_headers=settings.credentials.headers,
        max_connections=limits.connections,
        max_connections_per_address=limits.connections_per_address,
        header_timeout_seconds=limits.header_timeout,
        idle_timeout_seconds=limits.idle_timeout,
        shortest_timeout_seconds=shortest_timeout_seconds(settings),
        too_many=lambda: render(denial_for("overloaded"), gateway.new_id(), closes=True),
    )


def _apply_limits(server: ProxyServer, settings: configured.Settings) -> None:
    limits = settings.limits
    server.use_limits(build_limits(settings), settings.credentials.headers)
    server.max_connections = limits.connections
    server.max_connections_per_address = limits.connections_per_address
    server.header_timeout_seconds = limits.header_timeout
    server.idle_timeout_seconds = limits.idle_timeout
    server.deadlines.shortest_timeout_seconds = shortest_timeout_seconds(settings)


def _doors(settings: configured.Settings, worker: Worker | None) -> Doors:
    if worker is not None:
        return Doors(worker.place.sockets, worker.place.slot)
    addresses = addresses_of(settings)
    return Doors({use: bind_for(use, address, 1) for use, address in addresses.items()}, 0)


async def _open_operations(
    settings: configured.Settings,
    health: Health,
    reloader: Reloader | None,
    running: _Running,
    doors: Doors,
    member: Member | None,
    stack: AsyncExitStack,
) -> None:
    if settings.operations is None:
        return
    describe = None if reloader is None else lambda: reloader.state.describe()
    app = operations_app(
        health,
        describe,
        lambda: running.gateway.rules.jwt.key_set,
        running.metrics.collect,
        Decisions(running.gateway, running.write_entry),
        None if member is None else member.ask,
    )
    await _open("operations", operations_runner(app), doors, stack)


async def _open_portal(
    settings: configured.Settings,
    parts: _Parts,
    running: _Running,
    doors: Doors,
    stack: AsyncExitStack,
) -> None:
    """Open the page and the token API."""
    from sidecar.portal.app import portal_app  # with its templates: only where it is served
    from sidecar.portal.runner import PortalRunner

    secret = connect_secret(parts.store_url, prefix=settings.store.prefix)
    stack.push_async_callback(secret.close)
    app = portal_app(
        lambda: running.terms,
        parts.sign_in,
        gate=running.throttle,
        audit=running.audit,
        secret=secret.read,
    )
    await _open("portal", PortalRunner(app), doors, stack)


async def _open(use: str, runner: web.AppRunner, doors: Doors, stack: AsyncExitStack) -> None:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    await doors.open(use, runner.server)
    stack.callback(doors.close, use)


def open_log(
    settings: configured.Settings,
    loop: asyncio.AbstractEventLoop,
    turn: WriteTurn | None = None,
) -> AccessLog | None:
    """Return the access log, if there is to be one. Raises ``UsageError``."""
    if not settings.access_log.enabled:
        return None
    return AccessLog(settings.access_log.path, settings.tokens.prefix, loop, turn)


def _open_spans(settings: configured.Settings) -> SpanExport | None:
    tracing = settings.tracing
    if tracing.endpoint is None:
        return None
    from sidecar.observability.span_export import (
        SpanExport,  # with OpenTelemetry: only where it is used
    )

    return SpanExport(tracing.endpoint, tracing.headers, tracing.service_name, __version__)


async def _drop_stale(gateway: Gateway) -> None:
    """Close upstream connections that nobody used for a while."""
    while True:
        await asyncio.sleep(_STALE_SWEEP_SECONDS)
        for lane in gateway.rules.lanes.values():
            lane.pool.drop_stale()


def _follow(
    source: Path | None, settings: configured.Settings, worker: Worker | None
) -> Reloader | None:
    """Return what follows the file; nothing can follow a pipe, which is read but once."""
    if source is None:
        return None
    if not source.is_file():
        _log.warning("configuration %s is no ordinary file: it is not read again", source)
        return None
    if worker is None:
        return Reloader(source, settings, os.environ)
    place = worker.place
    return Reloader(
        source,
        settings,
        os.environ,
        generation=place.generation,
        refused=place.refused,
        tells_all=place.slot == 0,
    )


def preload(settings: configured.Settings) -> None:
    """Import what is imported when it is needed, so that processes forked from this share it."""
    import sidecar.operations.exposition

    if settings.portal is not None:
        import sidecar.portal.app
        import sidecar.portal.runner  # noqa: F401
