"""The page about clients has a row for each behaviour and a column for each client."""

from __future__ import annotations

import pytest

from tests.clients.behaviours import BEHAVIOURS
from tests.clients.clients import CLIENTS
from tests.clients.own_ways import OWN_WAYS
from tests.clients.suite import names
from tests.clients.table import BEGIN, PAGE

SHOWN = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].splitlines()


@pytest.mark.parametrize("title", [behaviour.title for behaviour in BEHAVIOURS])
def test_the_page_has_a_row_for_each_behaviour(title: str) -> None:
    (row,) = [line for line in SHOWN if line.startswith(f"| {title} |")]
    assert row.count("|") == len(CLIENTS) + 2
    assert "**no**" not in row


@pytest.mark.parametrize("client", CLIENTS, ids=names(CLIENTS))
def test_the_page_names_each_client(client: object) -> None:
    assert any(
        line.startswith(f"| {one.mark} | {one.title} |")
        for one in CLIENTS
        if one is client
        for line in SHOWN
    )


def test_an_own_way_belongs_to_a_client_and_a_behaviour_that_there_are() -> None:
    known = {(client, row) for client in names(CLIENTS) for row in names(BEHAVIOURS)}
    assert set(OWN_WAYS) <= known
