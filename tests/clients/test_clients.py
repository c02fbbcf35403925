"""Real clients call through a real sidecar: every behaviour, plain and over TLS."""

from __future__ import annotations

import pytest

from tests.clients.behaviours import BEHAVIOURS
from tests.clients.clients import CLIENTS
from tests.clients.suite import TRANSPORTS, Findings, expect, names
from tests.clients.table import BEGIN, PAGE, without_versions, written
from tests.conftest import IS_CI

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]


@pytest.mark.parametrize("behaviour", names(BEHAVIOURS))
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("client", names(CLIENTS))
def test_a_client_changes_nothing_and_is_served(
    findings: Findings, client: str, transport: str, behaviour: str
) -> None:
    expect(findings, client, transport, behaviour)


def test_the_page_shows_what_was_found(findings: Findings) -> None:
    """On a desk, write the page; at the gate, nobody would commit it."""
    if not findings.are_complete():
        pytest.skip(f"not here: {', '.join(findings.missing)}")
    kept, _, shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    found = f"\n\n{written(findings)}"
    if not IS_CI:
        PAGE.write_text(f"{kept}{BEGIN}{found}", encoding="utf-8")
    else:
        assert without_versions(shown) == without_versions(found)
