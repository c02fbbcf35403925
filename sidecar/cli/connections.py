"""The checks of ``sidecar check --connect``: does Redis keep tokens, do the upstreams answer?"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.cli.protocol_probe import answers_ping, speaks_tls, wants_tls
from sidecar.cli.reach import has_begun, reached_store
from sidecar.cli.redis_permissions import AskAll, Command, denied
from sidecar.cli.redis_settings import ASKED_SETTINGS, Finding, Master, Severity, judge
from sidecar.cli.token_reach import try_tokens
from sidecar.core.errors import StoreUnavailable, UsageError
from sidecar.core.os_errors import is_unknown_host, is_without_tls, reason_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sidecar.config.settings import ListenTlsSettings, Settings, UpstreamSettings
    from sidecar.store.store_url import StoreUrl
    from sidecar.store.topology import Client

BUDGET_SECONDS = 2.0
SOON = timedelta(days=21)
"""A certificate that expires sooner gets a warning: automatic renewal should have replaced it."""

_CUT = (None, 0, errno.ECONNRESET, errno.EPIPE)
"""How a connection fails that was there and was closed: in time, or with our bytes unread."""


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """The result of one check."""

    subject: str
    findings: tuple[Finding, ...] = ()
    remark: str = ""
    """What is worth knowing, and no fault."""

    @property
    def is_well(self) -> bool:
        """Tell whether there is no finding that prevents serving."""
        return self.passes(is_strict=False)

    def passes(self, *, is_strict: bool) -> bool:
        """Tell whether nothing prevents serving, and with ``is_strict``, nothing warns either."""
        bad = {Severity.PROBLEM, Severity.WARNING} if is_strict else {Severity.PROBLEM}
        return all(finding.severity not in bad for finding in self.findings)


def _failed(subject: str, text: str) -> ConnectionReport:
    return ConnectionReport(subject, (Finding(Severity.PROBLEM, text),))


async def try_upstream(name: str, upstream: UpstreamSettings) -> ConnectionReport:
    """Open one connection as the proxy does, with TLS if configured, and close it."""
    subject = f"upstream {name} ({upstream.url})"
    try:
        transport = await _connect(name, upstream)
    except (TimeoutError, OSError) as error:
        return _failed(subject, await _why_unconnected(name, upstream, error))
    shown = transport.get_extra_info("ssl_object")
    transport.abort()
    address = upstream.url.address
    if shown is None and address.path is None and await wants_tls(address.host, address.port):
        text = f"it speaks TLS on this port: write https:// in upstreams.{name}.url"
        return _failed(subject, text)
    return ConnectionReport(subject, tuple(_judge_tls(name, upstream, shown)) if shown else ())


async def _why_unconnected(name: str, upstream: UpstreamSettings, error: OSError) -> str:
    """Say why a connection could not be opened, and what to do."""
    address, key = upstream.url.address, f"upstreams.{name}.url"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"its certificate is not valid ({why}); see upstreams.{name}.tls"
    if is_without_tls(error):
        return f"it does not speak TLS on this port: write http:// in {key}, or correct the port"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason}); see upstreams.{name}.tls"
    if isinstance(error, TimeoutError):
        tls = ", and whether it speaks TLS there" if upstream.url.is_tls else ""
        return f"the connection timed out; check the address, and firewalls on the way{tls}"
    if is_unknown_host(error):
        return f"its host can't be looked up ({reason_of(error)}); correct {key}"
    if upstream.url.is_tls and isinstance(error, ConnectionError) and error.errno in _CUT:
        return f"it closed the connection in the TLS handshake; does it speak TLS there? See {key}"
    if address.path is not None and error.errno in (errno.ENOENT, errno.EACCES):
        what = "there is no such socket" if error.errno == errno.ENOENT else "it may not be opened"
        return f"{what} ({reason_of(error)}); is the service running, and may this user open it?"
    return f"the connection failed ({reason_of(error)}); is the service running?"


def _judge_tls(name: str, upstream: UpstreamSettings, shown: ssl.SSLObject) -> Iterable[Finding]:
    der = shown.getpeercert(binary_form=True)
    if upstream.tls is not None and not upstream.tls.verify:
        text = (
            f"its certificate is not verified (upstreams.{name}.tls.verify is false), so anybody "
            "on the way can read and change everything; set tls.ca to its authority instead"
        )
        yield Finding(Severity.WARNING, text)
    elif der is not None:
        yield from _judge_certificate(der)
    own = upstream.tls.certificate if upstream.tls is not None else None
    if own is not None:
        yield from _judge_file(own)


async def _connect(name: str, upstream: UpstreamSettings) -> asyncio.Transport:
    from sidecar.wire.destination import Destination
    from sidecar.wire.dialing import Dialer
    from sidecar.wire.upstream import UpstreamConnection

    address = upstream.url.address
    destination = Destination(
        name=name,
        host=address.host or "localhost",
        port=address.port,
        unix_path=address.path,
        tls=_tls_context(upstream) if upstream.url.is_tls else None,
        connect_timeout_seconds=upstream.connect_timeout,
        server_name=None if upstream.tls is None else upstream.tls.server_name,
    )
    loop = asyncio.get_running_loop()
    connection = await Dialer().open(
        destination, loop, lambda: UpstreamConnection(loop, destination.address, lambda gone: None)
    )
    if connection.transport is None:
        raise ConnectionResetError(errno.ECONNRESET, "closed at once")
    return connection.transport


def _tls_context(upstream: UpstreamSettings) -> ssl.SSLContext:
    from sidecar.config.settings import UpstreamTlsSettings
    from sidecar.wire.tls import upstream_context

    tls = upstream.tls or UpstreamTlsSettings()
    return upstream_context(tls.ca, tls.certificate, tls.private_key, is_verified=tls.verify)


async def try_listener(tls: ListenTlsSettings) -> ConnectionReport:
    """Check when the certificate that callers see expires."""
    return ConnectionReport(f"listen.tls ({tls.certificate})", tuple(_judge_file(tls.certificate)))


def _judge_file(path: Path) -> Iterable[Finding]:
    with suppress(OSError, ValueError):  # the file was readable when the configuration was checked
        der = ssl.PEM_cert_to_DER_cert(_first_certificate(path.read_text()))
        for finding in _judge_certificate(der):
            yield Finding(finding.severity, f"{path}: {finding.text}")


def _first_certificate(pem: str) -> str:
    end = "-----END CERTIFICATE-----"
    return pem[pem.index("-----BEGIN CERTIFICATE-----") : pem.index(end)] + end


def _judge_certificate(der: bytes) -> Iterable[Finding]:
    from cryptography import x509

    ends = x509.load_der_x509_certificate(der).not_valid_after_utc
    left = ends - datetime.now(UTC)
    if left < timedelta():
        yield Finding(Severity.PROBLEM, f"the certificate expired on {ends:%Y-%m-%d}; renew it")
    elif left < SOON:
        text = f"the certificate expires on {ends:%Y-%m-%d}, in {left.days} days; renew it"
        yield Finding(Severity.WARNING, text)


async def try_store(settings: Settings) -> ConnectionReport:
    """Read and write as the proxy does, then check the settings by which Redis may lose tokens."""
    subject = f"store ({_kind_of(settings.store.url)})"
    if not has_begun(settings):
        return _judge_beginning(subject, settings)
    found: list[Finding] = []
    remark = ""
    try:
        async with reached_store(settings) as store:
            await store.ping()
            found, remark = await try_tokens(settings)
        if settings.store.url == "embedded":
            return ConnectionReport(subject, tuple(found), remark)
    except (StoreUnavailable, UsageError) as error:
        found = [Finding(Severity.PROBLEM, await _why_unstored(settings, str(error)))]
    with suppress(StoreUnavailable, UsageError):  # this may say why, or Redis can't be reached
        found += await _ask(settings)
    return ConnectionReport(subject, tuple(found), remark)


def _judge_beginning(subject: str, settings: Settings) -> ConnectionReport:
    """Judge an embedded store that is still to begin; make nothing."""
    from sidecar.runtime.parts import find_binary
    from sidecar.store.embedded_data import refuse_left_behind

    try:
        find_binary()
        refuse_left_behind(settings.data_directory, Path.cwd())
    except UsageError as error:
        return _failed(subject, str(error))
    text = f"`sidecar run` will begin a new store in {settings.data_directory}"
    return ConnectionReport(subject, (Finding(Severity.NOTE, text),))


async def _why_unstored(settings: Settings, trouble: str) -> str:
    """Say why the store can't be used, and what to do; look at who answers there, if need be."""
    from sidecar.store.store_url import parse_store_url

    if settings.store.url != "embedded":
        with suppress(UsageError):
            url = parse_store_url(settings.store.url)
            node = url.nodes[0]
            is_silent = "did not answer" in trouble or "closed the connection" in trouble
            if is_silent and node.path is None:
                if url.is_tls and await answers_ping(node.host, node.port):
                    return "Redis answers without TLS there: write redis, not rediss, in store.url"
                if not url.is_tls and await speaks_tls(node.host, node.port):
                    return "what answers speaks TLS: write rediss, not redis, in store.url"
    if "store.url" in trouble:
        return trouble
    return f"{trouble}; check store.url, and that Redis runs and accepts writes"


def _kind_of(url: str) -> str:
    """Return the scheme of a store's URL; the rest may contain a password."""
    return url.partition(":")[0]


async def _ask(settings: Settings) -> list[Finding]:
    from sidecar.store.faults import budget
    from sidecar.store.store_url import parse_store_url
    from sidecar.store.topology import RedisConnector

    address = parse_store_url(settings.store.url)
    reach = RedisConnector(address, BUDGET_SECONDS, b"")
    try:
        async with budget(BUDGET_SECONDS):
            masters = await _ask_masters(reach.client, address, settings.store.prefix)
            return [*judge(masters), *_judge_way(address)]
    finally:
        await reach.close()


async def _ask_masters(client: Client, address: StoreUrl, prefix: str) -> list[Master]:
    from redis.asyncio import RedisCluster

    if isinstance(client, RedisCluster):
        return await _ask_cluster(client, prefix)
    told = await _answer(client.info())
    settings = await _answer(client.config_get(*ASKED_SETTINGS))
    return [
        Master(
            "",
            told,
            settings,
            is_behind_sentinel=address.topology.value == "sentinel",
            ahead_seconds=await _ask_clock(client),
            refuses_tracking=await _refuses_tracking(client, prefix),
            denied=await denied(_all_at_once(client), prefix),
        )
    ]


def _all_at_once(client: Redis) -> AskAll:
    """Return what sends commands together."""

    async def ask_all(commands: Sequence[Command]) -> Sequence[Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.response_callbacks = {}
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    return ask_all


def _of_node(cluster: Any, node: Any) -> AskAll:
    """Return what sends commands to one node; it checks permissions before it redirects."""

    async def ask_all(commands: Sequence[Command]) -> Sequence[Any]:
        asked = (cluster.execute_command(*words, target_nodes=node) for words in commands)
        return await asyncio.gather(*asked, return_exceptions=True)

    return ask_all


async def _ask_cluster(cluster: Any, prefix: str) -> list[Master]:
    await cluster.initialize()
    masters = []
    for node in cluster.get_primaries():
        told = await _answer(cluster.info(target_nodes=node))
        settings = await _answer(cluster.config_get(*ASKED_SETTINGS, target_nodes=node))
        lacking = await denied(_of_node(cluster, node), prefix, is_cluster=True)
        masters.append(
            Master(node.name, told, settings, is_expected_in_cluster=True, denied=lacking)
        )
    return masters


async def _answer(asked: Any) -> Mapping[str, Any] | None:
    """Return the reply; ``None`` if Redis refuses the command, as managed services do."""
    from redis.exceptions import ResponseError

    try:
        told: Mapping[str, Any] = await asked
    except ResponseError:
        return None
    return told


async def _ask_clock(client: Redis) -> float:
    """Return by how many seconds at least Redis's clock is ahead; 0 if it refuses ``TIME``."""
    from redis.exceptions import ResponseError

    before = time.time()
    try:
        seconds, microseconds = await client.time()
    except ResponseError:
        return 0.0
    theirs, after = seconds + microseconds / 1e6, time.time()
    return max(0.0, theirs - after) or min(0.0, theirs - before)


async def _refuses_tracking(client: Redis, prefix: str) -> bool:
    """Try ``CLIENT TRACKING`` as the look-ups use it, on a separate connection."""
    from redis.exceptions import ResponseError

    connection: Any = client.client()
    async with connection as one:
        try:
            words = ("ON", "BCAST", "PREFIX", f"{prefix}token:")
            await one.execute_command("CLIENT", "TRACKING", *words)
            await one.execute_command("CLIENT", "TRACKING", "OFF")
        except ResponseError:
            return True
    return False


def _judge_way(address: StoreUrl) -> list[Finding]:
    """Judge the network path to Redis: who else can connect, and who can eavesdrop."""
    remote = [node.host for node in address.nodes if node.path is None and not _is_here(node.host)]
    if not remote:
        return []
    if address.login.password is None:
        text = (
            "Redis requires no password and is on another machine: anybody who reaches it can "
            "write valid tokens; give the sidecar its own Redis user (ACL), and disable the default"
        )
        return [Finding(Severity.WARNING, text)]
    if address.is_tls:
        return []
    text = "the password and token digests cross the network in clear text; use TLS (rediss://)"
    return [Finding(Severity.NOTE, text)]


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
