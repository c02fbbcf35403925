"""The page that compares: whatever it says of others has a source, and every source a day."""

from __future__ import annotations

import datetime
import re

import pytest

from tests.proxy_process import ROOT

PAGE = (ROOT / "docs/explanation/why-this.md").read_text("utf-8")
COMPARED = {
    "nginx + Lua": "N",
    "Envoy": "E",
    "oauth2-proxy": "O",
    "Kong OSS": "K",
    "Traefik": "T",
    "APISIX": "A",
    "Ory Talos": "Y",
}
"""Every product, with the letter of its sources."""

UNKNOWN = "?"


def rows_under(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, row by row, the head first."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line
    ]


HEAD, *CLAIMS = rows_under("Side by side")
SOURCES = rows_under("Sources")[1:]
NAMES = [row[0] for row in SOURCES]


def test_every_product_is_compared() -> None:
    assert ["", "sidecar", *COMPARED] == HEAD


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row[0])
def test_each_claim_about_another_product_names_a_source_of_that_product(row: list[str]) -> None:
    cited = {
        product: {name[0] for name in re.findall(r"\[([A-Z]\d+)\]", cell)}
        for product, cell in zip(COMPARED, row[2:], strict=True)
        if cell != UNKNOWN
    }

    assert cited == {product: {COMPARED[product]} for product in cited}


@pytest.mark.parametrize("row", SOURCES, ids=lambda row: row[0])
def test_a_source_says_what_where_and_when(row: list[str]) -> None:
    _, says, address, day = row

    assert says
    assert address.startswith("https://")
    assert datetime.date.fromisoformat(day) <= datetime.datetime.now(datetime.UTC).date()


def test_sources_are_cited_and_citations_have_a_source() -> None:
    cited = re.findall(r"\[([A-Z]\d+)\]", PAGE)

    assert sorted(set(cited)) == sorted(NAMES)


def test_what_the_page_says_was_measured_is_what_the_performance_page_says() -> None:
    measured = (ROOT / "docs/explanation/performance.md").read_text("utf-8")
    ratios = [row[1] for row in rows_under("What it costs")[1:]]

    assert ratios
    assert [ratio for ratio in ratios if ratio not in measured] == []
