"""Which links of a built site are dead, and what counts as fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from website import links


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<h2 id="there">There</h2>')
    (tmp_path / "picture.svg").write_text("<svg/>")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        '<a href="other/">',
        '<a href="other/#there">',
        '<a href="/other/index.html#there">',
        '<a href="#here">',
        '<a href=".">',
        '<a href="https://elsewhere.example/a#b">',
        '<a href="mailto:a@b.example">',
        '<img src="picture.svg">',
        '<img src="data:image/png;base64,AA==">',
        '<link rel="canonical" href="https://elsewhere.example/">',
    ],
)
def test_a_link_that_leads_somewhere_is_no_fault(site: Path, line: str) -> None:
    (site / "index.html").write_text(f'<p id="here">{line}')
    assert links.faults(site) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('<a href="gone/">', "no such file: gone/"),
        ('<a href="other/#gone">', "no such anchor: other/#gone"),
        ('<a href="#gone">', "no such anchor: #gone"),
        ('<img src="gone.png">', "no such file: gone.png"),
        ('<script src="gone.js">', "no such file: gone.js"),
        ('<script src="https://cdn.example/a.js">', "fetches https://cdn.example/a.js"),
        ('<link rel="stylesheet" href="//cdn.example/a">', "fetches //cdn.example/a"),
        ('<img src="https://cdn.example/a.png">', "fetches https://cdn.example/a.png"),
    ],
)
def test_each_kind_of_fault_is_found(site: Path, line: str, fault: str) -> None:
    (site / "index.html").write_text(line)
    assert links.faults(site) == [f"index.html: {fault}"]


def test_the_path_at_which_the_site_will_be_is_its_root(site: Path) -> None:
    (site / "404.html").write_text('<a href="/docs/0.1/other/#there"><a href="/docs/0.1/gone/">')
    assert links.faults(site, "https://a.example/docs/0.1") == [
        "404.html: no such file: /docs/0.1/gone/"
    ]


def test_the_latest_version_stands_beside_this_one(site: Path) -> None:
    (site / "index.html").write_text('<a href="./../latest/"><a href="../0.1/">')
    assert links.faults(site) == ["index.html: no such file: ../0.1/"]


def test_pages_and_links_are_counted(site: Path) -> None:
    (site / "index.html").write_text('<a href="other/"><a href="https://elsewhere.example/">')
    assert links.count(site) == (2, 1)
