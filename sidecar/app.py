"""The composition root: a configuration in, running parts out. The one file that names every
adapter.

``run`` is a process, ``serve`` its life: store, gateway, listeners, then a stop signal and the
drain.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import uvloop
from aiohttp import http_parser, web

from sidecar import rules as judged_by
from sidecar.access_log import AccessLog, Entry
from sidecar.answers import Challenges, denial_for, render
from sidecar.config import model as configured
from sidecar.config.address import Address
from sidecar.core.credentials import CredentialRules
from sidecar.core.errors import UsageError
from sidecar.core.headers import HeaderRules
from sidecar.core.patterns import compile_pattern
from sidecar.core.policy import Account
from sidecar.core.request_heads import RequestHeads
from sidecar.core.routes import Route, RouteTable
from sidecar.gateway import Gateway
from sidecar.operations.app import operations_app
from sidecar.operations.health import Health
from sidecar.sign_in import SignIn
from sidecar.store.cache import TokenCache
from sidecar.store.embedded import EmbeddedRedis
from sidecar.store.port import TokenStore, Watcher
from sidecar.store.redis import connect
from sidecar.wire.pool import Origin, Pool
from sidecar.wire.relay import Patience
from sidecar.wire.requests import RequestLimits
from sidecar.wire.server import ProxyServer
from sidecar.wire.tls import listening_context, upstream_context

_log = logging.getLogger("sidecar")

DATA_DIRECTORY: Final = Path("data")
_STALE_SWEEP_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs: told to whoever waits for readiness."""

    settings: configured.Settings
    gateway: Gateway
    server: ProxyServer


def run(settings: configured.Settings) -> int:
    """Run until SIGTERM or SIGINT; return the exit status. Raises ``UsageError``."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
    return 0


async def serve(
    settings: configured.Settings,
    *,
    ready: Callable[[Serving], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run everything that one configuration names until ``stop`` is set, then drain.

    Without ``stop``, SIGTERM and SIGINT do that. Raises ``UsageError`` when something can't start.
    """
    refuse_slow_parser()
    with _stopping(stop) as stopping:
        async with AsyncExitStack() as stack:
            cache = build_cache(settings)
            store = await stack.enter_async_context(opened_store(settings, cache))
            cache.connect(store.look_up)
            await _serve_with(settings, store, cache, stack, ready, stopping)


async def _serve_with(
    settings: configured.Settings,
    store: TokenStore,
    cache: TokenCache,
    stack: AsyncExitStack,
    ready: Callable[[Serving], None] | None,
    stopping: asyncio.Event,
) -> None:
    loop = asyncio.get_running_loop()
    write_entry = _open_log(settings, loop, stack)
    sign_in = SignIn()
    stack.callback(sign_in.close)
    rules = build_rules(settings, loop)
    for lane in rules.lanes.values():
        stack.callback(lane.pool.close)
    gateway = Gateway(rules, cache, sign_in, write_entry)
    server = _build_server(settings, gateway)
    health = Health(store.ping, lambda: stopping.is_set())
    await _open_operations(settings, health, stack)
    await _open_proxy(settings, server)
    sweeping = asyncio.create_task(_drop_stale(gateway))
    stack.callback(sweeping.cancel)
    _log.info("listening on %s", settings.listen.address)
    if ready is not None:
        ready(Serving(settings, gateway, server))
    await stopping.wait()
    _log.info("draining: running requests may finish within %gs", settings.drain.timeout)
    if settings.drain.delay:
        await asyncio.sleep(settings.drain.delay)
    await server.drain(settings.drain.timeout)


def refuse_slow_parser() -> None:
    """Raise ``UsageError`` unless aiohttp's C parser is there: the one in Python is the weaker."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise UsageError(
            "aiohttp runs without its C extensions: "
            "unset AIOHTTP_NO_EXTENSIONS, or install a wheel of aiohttp"
        )


@asynccontextmanager
async def opened_store(
    settings: configured.Settings, watcher: Watcher | None = None
) -> AsyncIterator[TokenStore]:
    """Open the store that the configuration names; an embedded Redis lives as long as this does.

    A ``watcher`` is told of every change to a token.
    """
    async with AsyncExitStack() as stack:
        url = settings.store.url
        if url == "embedded":
            embedded = EmbeddedRedis(DATA_DIRECTORY)
            url = await embedded.start()
            stack.push_async_callback(embedded.stop)
        store = connect(url, prefix=settings.store.prefix, watcher=watcher)
        stack.push_async_callback(store.close)
        yield store


def build_cache(settings: configured.Settings) -> TokenCache:
    """Return the cache of tokens; without ``cache.tokens`` it keeps none."""
    store = settings.store
    return TokenCache(
        most_tokens=store.cache.tokens,
        max_age_seconds=store.cache.max_age,
        outage_grace_seconds=store.outage_grace,
    )


def build_rules(settings: configured.Settings, loop: asyncio.AbstractEventLoop) -> judged_by.Rules:
    """Compute what a configuration means. Raises ``UsageError`` for TLS files that don't load."""
    credentials = CredentialRules(settings.credentials.headers, settings.credentials.query)
    identity = settings.identity.headers
    headers = HeaderRules(identity, settings.credentials.headers)
    lanes = {
        name: _build_lane(name, upstream, settings.limits.body_timeout, headers, credentials, loop)
        for name, upstream in settings.upstreams.items()
    }
    return judged_by.Rules(
        routes=RouteTable([_build_route(route) for route in settings.routes]),
        accounts=build_accounts(settings),
        credentials=credentials,
        headers=headers,
        lanes=MappingProxyType(lanes),
        challenges=Challenges(settings.credentials.realm),
        identity=judged_by.IdentityLines(identity),
        token_prefix=settings.tokens.prefix,
        expiry_notice_seconds=settings.tokens.expiry_notice,
        trusted_proxies=tuple(settings.trusted_proxies),
    )


def build_accounts(settings: configured.Settings) -> Mapping[str, Account]:
    """Return the accounts as policy knows them, by name."""
    return MappingProxyType(
        {
            name: Account(
                name=name,
                password_hash=account.password_hash,
                paths=tuple(compile_pattern(path) for path in account.paths),
                max_token_days=account.max_token_days,
                disabled=account.disabled,
            )
            for name, account in settings.accounts.items()
        }
    )


def _build_route(route: configured.Route) -> Route:
    return Route(
        pattern=compile_pattern(route.path),
        methods=frozenset(route.methods) or None,
        upstream=route.upstream,
        forms=frozenset(route.credentials),
        accounts=frozenset(route.accounts) or None,
        public=route.public,
        name=route.path,
    )


def _build_lane(
    name: str,
    upstream: configured.Upstream,
    body_timeout_seconds: float,
    headers: HeaderRules,
    credentials: CredentialRules,
    loop: asyncio.AbstractEventLoop,
) -> judged_by.Lane:
    authority = upstream.url.authority.encode()
    address = upstream.url.address
    origin = Origin(
        name=name,
        host=address.host or "localhost",
        port=address.port,
        unix_path=address.path,
        tls=_upstream_tls(name, upstream),
        connect_timeout_seconds=upstream.connect_timeout,
        max_connections=upstream.max_connections,
    )
    return judged_by.Lane(
        pool=Pool(origin, loop),
        heads=RequestHeads(
            headers,
            credentials.strip_query,
            authority=None if upstream.preserve_host else authority,
            keeps_credentials=upstream.forward_credentials,
        ),
        authority=authority,
        patience=Patience(
            response_seconds=upstream.response_timeout,
            idle_seconds=upstream.idle_timeout,
            body_seconds=body_timeout_seconds,
        ),
        forwards_credentials=upstream.forward_credentials,
    )


def _upstream_tls(name: str, upstream: configured.Upstream) -> ssl.SSLContext | None:
    if not upstream.url.is_tls:
        return None
    tls = upstream.tls or configured.UpstreamTls()
    try:
        return upstream_context(tls.ca, tls.certificate, tls.private_key, is_verified=tls.verify)
    except OSError as error:
        raise UsageError(f"upstreams.{name}.tls: {error.strerror or error}") from None


def _build_server(settings: configured.Settings, gateway: Gateway) -> ProxyServer:
    limits = settings.limits
    upstream_timeouts = [
        timeout
        for upstream in settings.upstreams.values()
        for timeout in (upstream.response_timeout, upstream.idle_timeout)
    ]
    return ProxyServer(
        gateway.serve,
        limits=RequestLimits(
            limits.headers, limits.header_bytes, limits.url_bytes, limits.body_bytes
        ),
        max_connections=limits.connections,
        header_timeout_seconds=limits.header_timeout,
        idle_timeout_seconds=limits.idle_timeout,
        shortest_timeout_seconds=min(
            limits.header_timeout, limits.idle_timeout, limits.body_timeout, *upstream_timeouts
        ),
        too_many=lambda: render(denial_for("overloaded"), gateway.new_id(), closes=True),
    )


async def _open_proxy(settings: configured.Settings, server: ProxyServer) -> None:
    address, tls = settings.listen.address, settings.listen.tls
    context: ssl.SSLContext | None = None
    try:
        if tls is not None:
            context = listening_context(tls.certificate, tls.private_key, tls.client_ca)
    except OSError as error:
        raise UsageError(f"listen.tls: {error.strerror or error}") from None
    await server.listen(address.host, address.port, address.path, context)


async def _open_operations(
    settings: configured.Settings, health: Health, stack: AsyncExitStack
) -> None:
    if settings.operations is None:
        return
    runner = web.AppRunner(operations_app(health), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    address = settings.operations.address
    try:
        await _site(runner, address).start()
    except OSError as error:
        raise UsageError(
            f"operations.address: can't listen on {address}: {error.strerror}"
        ) from None


def _site(runner: web.AppRunner, address: Address) -> web.BaseSite:
    if address.path is not None:
        return web.UnixSite(runner, address.path)
    return web.TCPSite(runner, address.host, address.port)


def _open_log(
    settings: configured.Settings, loop: asyncio.AbstractEventLoop, stack: AsyncExitStack
) -> Callable[[Entry, float], None]:
    if not settings.access_log.enabled:
        return lambda entry, now: None
    log = AccessLog(settings.access_log.path, settings.tokens.prefix, loop)
    stack.callback(log.close)
    return log.write


async def _drop_stale(gateway: Gateway) -> None:
    """Close upstream connections that nobody used for a while."""
    while True:
        await asyncio.sleep(_STALE_SWEEP_SECONDS)
        for lane in gateway.rules.lanes.values():
            lane.pool.drop_stale()


@contextmanager
def _stopping(stop: asyncio.Event | None) -> Iterator[asyncio.Event]:
    """Yield the event that ends the process: the caller's own, or one that signals set."""
    if stop is not None:
        yield stop
        return
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
