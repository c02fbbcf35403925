"""What `sidecar check --connect` tries: would Redis keep tokens, do the upstreams answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.cli.reach import reached_store
from sidecar.core.errors import StoreUnavailable, UsageError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sidecar.config.model import Settings, Upstream
    from sidecar.store.topology import Client

BUDGET_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one try. A problem says what to do; a note is for the admin to weigh."""

    subject: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def try_upstream(name: str, upstream: Upstream) -> Report:
    """Open one connection as the proxy does, TLS included, and close it."""
    subject = f"upstream {name} ({upstream.url})"
    try:
        async with asyncio.timeout(upstream.connect_timeout):
            writer = await _connect(upstream)
    except TimeoutError:
        return Report(
            subject, ("no connection in time; is the address right and nothing between?",)
        )
    except ssl.SSLError as error:
        return Report(subject, (f"TLS failed ({error.reason}); see upstreams.{name}.tls",))
    except OSError as error:
        return Report(subject, (f"no connection ({error.strerror or error}); is it running?",))
    writer.close()
    return Report(subject)


async def _connect(upstream: Upstream) -> asyncio.StreamWriter:
    address = upstream.url.address
    if address.path is not None:
        return (await asyncio.open_unix_connection(address.path))[1]
    context = _tls_context(upstream) if upstream.url.is_tls else None
    return (await asyncio.open_connection(address.host, address.port, ssl=context))[1]


def _tls_context(upstream: Upstream) -> ssl.SSLContext:
    from sidecar.config.model import UpstreamTls
    from sidecar.wire.tls import upstream_context

    tls = upstream.tls or UpstreamTls()
    return upstream_context(tls.ca, tls.certificate, tls.private_key, is_verified=tls.verify)


async def try_store(settings: Settings) -> Report:
    """Read and write as the proxy does, then ask Redis for the settings that lose tokens."""
    subject = f"store ({_kind_of(settings.store.url)})"
    try:
        async with reached_store(settings) as store:
            await store.ping()
        if settings.store.url == "embedded":
            return Report(subject)
        return judge(subject, await _ask_settings(settings.store.url))
    except (StoreUnavailable, UsageError) as error:
        return Report(
            subject, (f"{error}; is store.url right, and does Redis run and take writes?",)
        )


def _kind_of(url: str) -> str:
    """Return what may be shown of a store's URL: it can hold a password."""
    return url.partition(":")[0]


async def _ask_settings(url: str) -> list[Mapping[str, Any]]:
    """Return what each master says of itself; an empty ``save`` where it may not be asked."""
    from sidecar.store.address import parse
    from sidecar.store.faults import budget
    from sidecar.store.topology import Reach

    reach = Reach(parse(url), BUDGET_SECONDS, b"")
    try:
        async with budget(BUDGET_SECONDS):
            return await _ask_masters(reach.client)
    finally:
        await reach.close()


async def _ask_masters(client: Client) -> list[Mapping[str, Any]]:
    from redis.asyncio import RedisCluster

    if isinstance(client, RedisCluster):
        told = await client.info(target_nodes=RedisCluster.PRIMARIES)
        return [told] if "maxmemory_policy" in told else list(told.values())
    return [{**await client.info(), "save": await _ask_snapshots(client)}]


async def _ask_snapshots(client: Redis) -> str | None:
    """Return the ``save`` setting; ``None`` where ``CONFIG`` is forbidden, as hosts like to."""
    from redis.exceptions import ResponseError

    try:
        return (await client.config_get("save")).get("save")
    except ResponseError:
        return None


def judge(subject: str, masters: Sequence[Mapping[str, Any]]) -> Report:
    """Return what in the masters' own words would lose tokens, and what to do about it."""
    problems: list[str] = []
    notes: list[str] = []
    for told in masters:
        policy = told.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            problems.append(
                f"Redis drops tokens when memory is short (maxmemory-policy {policy}); "
                "set maxmemory-policy noeviction"
            )
        if told.get("aof_enabled", 0):
            continue
        if told.get("save") == "":
            problems.append(
                "Redis keeps nothing on disk; set appendonly yes, or tokens end with it"
            )
        else:
            notes.append(
                "Redis keeps snapshots alone: after a crash the latest tokens are gone and the "
                "latest revocations undone; appendonly yes avoids both"
            )
    return Report(subject, tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(notes)))
