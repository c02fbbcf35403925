"""The common request over TLS: on kept-alive connections, and on a new connection each.

All peers have the same certificate (ECDSA P-256), and the load offers nothing but TLS 1.3 with
AES-128-GCM and X25519, so all of them agree on the same. New connections make a full handshake, or
resume a session; their figures are of a whole connection: the handshake, one request, the end.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import handshakes, measure
from benchmarks.handshakes import Order
from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.peers.registry import PEERS, VERSATILE
from benchmarks.scenarios import Plan, Scenario
from benchmarks.stage import Stage
from benchmarks.upstream import BASE
from benchmarks.wrk import Load

OF_CONNECTIONS = ("connection_us", "connections", "busy_percent")


def prepare_hit(plan: Plan) -> None:
    """Add the peers that can listen with TLS."""
    load = Load(headers=(plan.stage.holder.bearer,))
    for name in VERSATILE:
        running = plan.start(name, certificate=plan.stage.certificate)
        plan.add_load(PEERS[name].title, running, load)


def prepare_connections(*, resumes: bool) -> Callable[[Plan], None]:
    """Return what adds the same peers with a new connection for each request."""

    def prepare(plan: Plan) -> None:
        for name in VERSATILE:
            running = plan.start(name, certificate=plan.stage.certificate)
            if running is not None:
                plan.add(PEERS[name].title, _connecting(plan.stage, running, resumes))

    return prepare


def _connecting(stage: Stage, running: Running, resumes: bool) -> Callable[[int], Sample]:
    lines = (f"GET {BASE}/bench HTTP/1.1", "Host: 127.0.0.1", "Connection: close")
    request = "\r\n".join((*lines, stage.holder.bearer, "", ""))
    authority = str(stage.certificate.certificate)

    def take(seconds: int) -> Sample:
        order = Order(running.port, request, authority, seconds, resumes)
        with measure.measured(running, stage.redis) as usage:
            found = handshakes.run(
                order, cores=stage.cores.around, environment=running.client_environment
            )
        return {
            "connection_us": usage.cpu_seconds / found.count * 1e6,
            "connections": found.rate,
            "busy_percent": usage.cpu_seconds / found.seconds * 100,
        }

    return take


HIT = Scenario("tls", "small authorized GET over TLS, 64 kept-alive connections", prepare_hit)
FULL = Scenario(
    "tls_full",
    "new TLS connections, a full handshake and one GET each",
    prepare_connections(resumes=False),
    columns=OF_CONNECTIONS,
    compared="connection_us",
)
RESUMED = Scenario(
    "tls_resumed",
    "new TLS connections, a resumed session and one GET each",
    prepare_connections(resumes=True),
    columns=OF_CONNECTIONS,
    compared="connection_us",
)
