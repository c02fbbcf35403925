"""The page with the table of client by behaviour, as the suite found it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.clients.behaviours import BEHAVIOURS
from tests.clients.clients import CLIENTS
from tests.clients.own_ways import OWN_WAYS
from tests.clients.suite import TRANSPORTS, Findings

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
BEGIN: Final = "<!-- Written by `make clients`, from here to the end. -->"


def written(findings: Findings) -> str:
    """Return what follows ``BEGIN`` on the page."""
    notes: list[str] = []
    rows = [
        f"| {behaviour.title} | "
        + " | ".join(_cell(findings, client.name, behaviour.name, notes) for client in CLIENTS)
        + " |"
        for behaviour in BEHAVIOURS
    ]
    heads = [client.mark for client in CLIENTS]
    versions = [
        f"| {client.mark} | {client.title} | {findings.versions[client.name]} |"
        for client in CLIENTS
    ]
    lines = [
        "## The clients",
        "",
        "| | client | version |",
        "|---|---|---|",
        *versions,
        "",
        "## What they do",
        "",
        f"| behaviour | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
        *rows,
        "",
        "## Notes",
        "",
        *(f"{number}. {note}" for number, note in enumerate(notes, 1)),
        "",
    ]
    return "\n".join(lines)


def _cell(findings: Findings, client: str, behaviour: str, notes: list[str]) -> str:
    own = OWN_WAYS.get((client, behaviour))
    if own is not None:
        where = "" if own.transports == TRANSPORTS else f" ({' and '.join(own.transports)} only)"
        return f"[{_note(f'The client {own.reason}{where}.', notes)}]"
    found = {findings.verdicts[client, transport, behaviour] for transport in TRANSPORTS}
    if cannot := {verdict.cannot for verdict in found} - {""}:
        return f"– [{_note(f'The client {cannot.pop()}.', notes)}]"
    return "**no**" if any(verdict.fault for verdict in found) else "✓"


def _note(text: str, notes: list[str]) -> int:
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def without_versions(text: str) -> str:
    """Return the page less what differs from one machine to the next."""
    return text[text.index("## What they do") :]
