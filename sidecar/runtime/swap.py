"""Which parts a configuration determines, and how another one replaces it under running requests.

``ConfiguredParts.prepare`` makes, in a thread, all parts whose making can fail. The function that
it returns puts all of them in place in one step, on the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from time import time
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.auth.authenticator import Authenticator
from sidecar.auth.jwt_verifier import JwtVerifier
from sidecar.auth.password_auth import PasswordAuth
from sidecar.auth.throttle import Throttle
from sidecar.config.settings import Settings
from sidecar.observability.access_log import AccessLog, RequestLog
from sidecar.observability.audit import AuditLog
from sidecar.observability.line_writer import WriteLock
from sidecar.observability.metrics import SPAN_RESULTS, Metrics
from sidecar.observability.stderr_log import write_at_once
from sidecar.portal.context import PortalConfig
from sidecar.program import is_compiled
from sidecar.proxy.gateway import Gateway
from sidecar.proxy.rules import Rules
from sidecar.runtime.build import build_jwt, build_listening_tls, build_rules, reaches_alike
from sidecar.runtime.parts import (
    ProcessParts,
    apply_limits,
    build_server,
    connect_counters,
    descriptor_shares,
    open_log,
    open_spans,
    throttle_limits,
)
from sidecar.runtime.reload import Change, Commit, Reloader
from sidecar.runtime.signing import signer_of
from sidecar.tokens.lifecycle import Lifecycle
from sidecar.wire.accepting import Acceptor
from sidecar.wire.descriptors import OWN_DESCRIPTORS, count_open
from sidecar.wire.dialing import Dialer
from sidecar.wire.listening_tls import ListeningTls
from sidecar.wire.pool import Pool

if TYPE_CHECKING:
    from sidecar.observability.span_export import SpanExport


class ConfiguredParts:
    """The parts that serve under the configuration in force."""

    def __init__(
        self, settings: Settings, parts: ProcessParts, write_lock: WriteLock | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.settings = settings
        self._write_lock = write_lock
        self._dialer = Dialer()  # kept across configurations, with the addresses that failed
        rules = build_rules(settings, self._loop, dialer=self._dialer)
        tls = build_listening_tls(settings)
        self.tls = None if tls is None else ListeningTls(tls)
        self._dropped_lines = 0  # by access logs that have been replaced
        self._closing: set[asyncio.Task[None]] = set()
        self._log = open_log(settings, self._loop, write_lock)
        self._spans = open_spans(settings)
        self._closed_spans: list[SpanExport] = []
        self.metrics = Metrics(__version__, is_compiled=is_compiled())
        self.audit = AuditLog(self._write_audit, lambda name: name in self.gateway.rules.accounts)
        counters = connect_counters(parts.store_url, prefix=settings.store.prefix)
        self.throttle = Throttle(counters, throttle_limits(settings), self._note_ban)
        passwords = PasswordAuth(parts.passwords, self.throttle, self.audit)
        authenticator = Authenticator(parts.cache, passwords)
        self.gateway = Gateway(
            rules, authenticator, parts.last_uses, parts.streams, self.write_entry
        )
        rules.jwt.issuers.start()
        self._parts = parts
        self.portal_config = self._build_portal_config()
        self.server = build_server(settings, self.gateway)
        self._takes_proxy_headers = settings.listen.proxy_protocol  # until the process ends
        self._own_descriptors = OWN_DESCRIPTORS
        self._dialer.free_descriptors = self._drop_idle_connections

    async def accept(self, listener: socket.socket) -> Acceptor:
        """Accept callers' connections from ``listener``."""
        is_balancer = self._is_trusted if self._takes_proxy_headers else None
        return Acceptor(listener, self.server, self.tls, is_balancer)

    def _is_trusted(self, peer: str) -> bool:
        return self.gateway.rules.trusted_proxies.is_trusted(peer)

    def share_descriptors(self) -> None:
        """Leave callers as many descriptors as there are, now that all parts have opened theirs."""
        self._own_descriptors = count_open()
        self.server.use_room(descriptor_shares(self.settings, self._own_descriptors).callers)

    def prepare(self, change: Change) -> Commit:
        """Make the parts that ``change`` needs; return the function that puts it in force.

        Raises ``UsageError`` if a part can't be made; nothing has changed then.
        """
        new = change.new
        kept, jwt = self._kept_pools(change), self._jwt_for(change)
        rules = build_rules(new, self._loop, kept, jwt, self._dialer)
        tls = build_listening_tls(new) if _has_other_tls(change) else None
        spans, log = self._spans, self._log
        if change.old.tracing != new.tracing:
            spans = open_spans(new)
        if _logs_elsewhere(change):
            # Last: if a later step failed, this log would have to be closed again.
            log = open_log(new, self._loop, self._write_lock)

        def commit() -> Rules:
            self.settings = new
            self._swap_rules(rules)
            if tls is not None and self.tls is not None:
                self.tls.current = tls
            apply_limits(self.server, new)
            self.server.use_room(descriptor_shares(new, self._own_descriptors).callers)
            self.throttle.limits = throttle_limits(new)
            self.portal_config = self._build_portal_config()
            self._swap_log(log)
            self._swap_spans(spans)
            return rules

        return commit

    async def close(self) -> None:
        """Close the logs and the upstream connections, and stop fetching issuers' keys."""
        await self.throttle.close()
        self.audit.close()
        await self.gateway.rules.jwt.issuers.close()
        for upstream in self.gateway.rules.upstreams.values():
            upstream.pool.close()
        if self._log is not None:
            self._log.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)

    def expose_metrics(self, reloader: Reloader | None) -> None:
        """Make the metrics include what the parts themselves count."""
        from sidecar.operations.exposition import read_process  # slow to import

        metrics = self.metrics
        metrics.add_source(read_process)
        metrics.expect(lambda: self.gateway.rules.routes.routes)
        metrics.follow("sidecar_connections", lambda: self.server.open_connections)
        metrics.follow("sidecar_bans_in_force", lambda: self.throttle.bans_in_force)
        metrics.follow("sidecar_live_streams", lambda: len(self._parts.streams))
        self._parts.cache.lookup_seconds = metrics.lookup_seconds
        metrics.follow_cache(self._parts.cache)
        metrics.follow_pools(
            lambda: {name: upstream.pool for name, upstream in self.gateway.rules.upstreams.items()}
        )
        metrics.follow(
            "sidecar_access_log_dropped_total",
            lambda: self._dropped_lines + (0 if self._log is None else self._log.dropped),
        )
        metrics.follow_spans(self._count_spans)
        if reloader is not None:
            metrics.follow_configuration(lambda: reloader.state)

    def _build_portal_config(self) -> PortalConfig:
        """Return what the portal takes from the configuration in force."""
        rules = self.gateway.rules
        lifecycle = Lifecycle(
            self._parts.store,
            rules.accounts,
            rules.token_prefix,
            time,
            os.urandom,
            signer_of(self.settings),
        )
        return PortalConfig(
            rules.accounts,
            lifecycle,
            bool(self.settings.jwt.keys),
            rules.expiry_notice_seconds,
            trusted_proxies=rules.trusted_proxies,
        )

    def _note_ban(self, network: str | None, account: str | None, seconds: float) -> None:
        self.audit.ban_set(network, account, seconds)
        self.metrics.on_ban(network, account, seconds)

    def reopen_log(self) -> None:
        """Reopen the access log's file, after it was moved away."""
        if self._log is not None:
            self._log.reopen()

    def _write_audit(self, lines: bytes, _: int) -> None:
        if self._log is None:
            write_at_once(lines)
        else:
            self._log.write_line(lines.decode())

    def _jwt_for(self, change: Change) -> JwtVerifier:
        """Return the verifier in use, with its caches, unless keys or issuers have changed."""
        current = self.gateway.rules.jwt
        if change.old.jwt == change.new.jwt and not change.has_other_files("jwt"):
            return current
        return build_jwt(change.new, current)

    def _kept_pools(self, change: Change) -> dict[str, Pool]:
        """Return, by name, the pools of the upstreams whose address and TLS have not changed."""
        old = change.old.upstreams
        return {
            name: self.gateway.rules.upstreams[name].pool
            for name, upstream in change.new.upstreams.items()
            if name in old
            and reaches_alike(old[name], upstream)
            and not change.has_other_files(f"upstreams.{name}.tls")
        }

    def _swap_rules(self, rules: Rules) -> None:
        """Judge by ``rules`` from now on; running requests keep the old rules and pools."""
        kept = {upstream.pool for upstream in rules.upstreams.values()}
        for upstream in self.gateway.rules.upstreams.values():
            if upstream.pool not in kept:
                upstream.pool.close()
        before, self.gateway.rules = self.gateway.rules, rules
        if before.jwt is not rules.jwt:
            closing = self._loop.create_task(before.jwt.issuers.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            rules.jwt.issuers.start()

    def _drop_idle_connections(self) -> None:
        for upstream in self.gateway.rules.upstreams.values():
            upstream.pool.drop_idle()

    def _swap_log(self, log: AccessLog | None) -> None:
        old, self._log = self._log, log
        if old is not None and old is not log:
            self._dropped_lines += old.dropped
            old.flush()
            self._loop.run_in_executor(None, old.close)  # it may wait for a slow disk

    def _swap_spans(self, spans: SpanExport | None) -> None:
        old, self._spans = self._spans, spans
        if old is not None and old is not spans:
            self._closed_spans.append(old)
            self._loop.run_in_executor(None, old.close)  # it may wait for the collector

    def _count_spans(self) -> dict[str, int]:
        """Return the results of spans since the start, under earlier configurations too."""
        exports = [*self._closed_spans, *([] if self._spans is None else [self._spans])]
        return {result: sum(getattr(e, result) for e in exports) for result in SPAN_RESULTS}

    def write_entry(self, entry: RequestLog, now: float) -> None:
        """Record a finished request or decision in the metrics, the log and the trace."""
        self.metrics.observe(entry, now)
        if entry.parent_id is not None and self._spans is not None:
            self._spans.note(entry, now)
        if self._log is not None:
            self._log.write(entry, now)


def _has_other_tls(change: Change) -> bool:
    return change.old.listen.tls != change.new.listen.tls or change.has_other_files("listen.tls")


def _logs_elsewhere(change: Change) -> bool:
    """Return whether the access log must be replaced; its masking depends on the prefix."""
    old, new = change.old, change.new
    return old.access_log != new.access_log or old.tokens.prefix != new.tokens.prefix
