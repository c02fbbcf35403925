"""The site is built from the docs without a warning, and no link of it is dead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from website import build, links, pages

ADDRESS = "https://docs.example/0.1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical")
    return build.build(tmp_path_factory.mktemp("docs") / "built")


def test_every_page_is_there(site: Path) -> None:
    places = (pages.place_of(source).with_suffix("") for source in pages.sources())
    files = ((place.parent if place.name == "index" else place) / "index.html" for place in places)
    assert [str(file) for file in files if not (site / file).is_file()] == []


def test_no_link_is_dead_and_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    assert links.faults(site) == []
    page_count, link_count = links.count(site)
    assert page_count > len(pages.sources())
    assert link_count > 10 * page_count


def test_nothing_of_markdown_is_left_over_in_the_text(site: Path) -> None:
    """Nor is a list, a table or a block of code that was not taken for one."""
    faults = []
    for path in sorted(site.rglob("*.html")):
        article = path.read_text("utf-8").partition("<article")[2].partition("</article>")[0]
        text = re.sub(r"<(pre|code|svg|style)\b.*?</\1>", "", article, flags=re.S)
        words = re.sub(r"<[^>]+>", "", text)
        left = re.findall(r"^\s*(?:```.*|\|.*\|\s*|- .*)$|\*\*|\]\(|```", words, re.M)
        faults += [f"{path.relative_to(site)}: {found.strip()}" for found in left]
    assert faults == []


def test_a_warning_of_the_generator_fails_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zensical")
    gather_really = build.gather

    def gather(directory: Path, **options: Any) -> None:
        gather_really(directory, **options)
        with (directory / "pages" / "architecture.md").open("a") as page:
            page.write("\n[lost](nowhere.md)\n")

    monkeypatch.setattr(build, "gather", gather)
    with pytest.raises(pages.Unbuilt, match=r"page does not exist[^$]*\(nowhere\.md\)"):
        build.build(tmp_path / "built")


def test_with_an_address_each_page_says_where_it_belongs(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    site = build.build(tmp_path / "built", has_versions=True, address=ADDRESS)
    page = (site / "architecture" / "index.html").read_text("utf-8")
    assert '<link rel="canonical" href="https://docs.example/0.1/architecture/">' in page
    assert "https://docs.example/0.1/architecture/" in (site / "sitemap.xml").read_text("utf-8")
    assert links.faults(site, ADDRESS) == []
