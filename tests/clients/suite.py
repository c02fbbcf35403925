"""One run of the suite: every client, plain and over TLS, through every behaviour."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.behaviours import BEHAVIOURS, Behaviour, Outcome
from tests.clients.clients import CLIENTS, Client, MissingError, Started, run_program
from tests.clients.counting_relay import CountingRelay
from tests.clients.own_ways import OWN_WAYS
from tests.clients.service import Service

TRANSPORTS: Final = ("plain", "TLS")
AT_ONCE: Final = 4  # most of the time a client waits: for the service, or for its start


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: nothing amiss, or why the client cannot do it, or what went wrong."""

    cannot: str = ""
    fault: str = ""
    is_lost: bool = False
    """Nothing was heard of it: the client's program ended before, or took too long."""


@dataclass(slots=True)
class Findings:
    """All that one run found; ``missing`` has the clients that are not here, with the reason."""

    verdicts: dict[tuple[str, str, str], Verdict] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def are_complete(self) -> bool:
        """Tell whether every client took part."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Bench:
    """What the clients are run against, and with."""

    ports: Mapping[str, int]
    service: Service
    authority: Path
    secrets: Mapping[str, str]

    def play(self, client: Client, transport: str, started: Started) -> dict[str, Verdict]:
        """Run one client's program over one transport; return the verdict on each behaviour."""
        scheme = "https" if transport == "TLS" else "http"
        relays = {
            one.name: CountingRelay(self.ports[transport])
            for one in BEHAVIOURS
            if one.counts_connections
        }
        cases = []
        for one in BEHAVIOURS:
            relay = relays.get(one.name)
            origin = f"{scheme}://127.0.0.1:{relay.port if relay else self.ports[transport]}"
            case = _case_name(client, transport, one)
            requests = [ask.told(case, origin, self.secrets) for ask in one.asks]
            cases.append({"name": one.name, "requests": requests})
        output, errors = run_program(
            started, json.dumps({"ca": str(self.authority), "cases": cases})
        )
        told = {line["name"]: line for line in map(json.loads, output.splitlines())}
        verdicts = {}
        for one in BEHAVIOURS:
            seen = self.service.seen(_case_name(client, transport, one))
            connections = relays[one.name].connections if one.name in relays else 0
            line = told.get(one.name)
            if line is None:
                lost = f"its program ended: {errors[-2000:]}"
                verdicts[one.name] = Verdict(fault=lost, is_lost=True)
            elif line["cannot"]:
                verdicts[one.name] = Verdict(cannot=line["cannot"])
            else:
                outcome = Outcome(line["responses"], seen, connections, self.secrets)
                verdicts[one.name] = Verdict(fault=line["error"] or _fault(one, outcome))
        for relay in relays.values():
            relay.close()
        return verdicts


def _case_name(client: Client, transport: str, behaviour: Behaviour) -> str:
    return f"{client.name}.{transport}.{behaviour.name}"


def _fault(behaviour: Behaviour, outcome: Outcome) -> str:
    """Return what a behaviour's check has to say, with what it looked at."""
    told = [{**response, "text": response["text"][:300]} for response in outcome.responses]
    looked_at = (
        f" connections: {outcome.connections}\nresponses: {told}\nthe service saw: {outcome.seen}"
    )
    if len(outcome.responses) != len(behaviour.asks):
        return f"{len(outcome.responses)} responses{looked_at}"
    try:
        behaviour.check(outcome)
    except Exception as error:
        return f"{type(error).__name__}: {error}{looked_at}"
    return ""


def play_all(bench: Bench, directory: Path) -> Findings:
    """Run every client that is here."""
    findings = Findings()

    def prepare(client: Client) -> tuple[Client, Started | None]:
        try:
            started = client.prepare(directory, bench.authority)
        except MissingError as error:
            findings.missing[client.name] = str(error)
            return client, None
        findings.versions[client.name] = started.version
        return client, started

    def play(client: Client, started: Started, transport: str) -> None:
        for name, verdict in bench.play(client, transport, started).items():
            findings.verdicts[client.name, transport, name] = verdict

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ready = [*pool.map(prepare, CLIENTS)]
        runs = [
            pool.submit(play, client, started, transport)
            for transport in TRANSPORTS
            for client, started in ready
            if started
        ]
        for run in runs:
            run.result()
    return findings


def expect(findings: Findings, client: str, transport: str, behaviour: str) -> None:
    """Fail or skip the running test, as what was found of it demands."""
    if client in findings.missing:
        pytest.skip(findings.missing[client])
    verdict = findings.verdicts[client, transport, behaviour]
    own = OWN_WAYS.get((client, behaviour))
    if own is None or transport not in own.transports or verdict.is_lost:
        assert not verdict.fault, verdict.fault
    else:
        assert verdict.fault, f"it is no longer true that it {own.reason}"


def names(items: Sequence[Any]) -> list[str]:
    """Return the names of clients or behaviours, for the tests' own names."""
    return [item.name for item in items]
