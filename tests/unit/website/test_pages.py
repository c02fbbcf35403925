"""What becomes of the repository's Markdown on its way into the site."""

from __future__ import annotations

import re

import pytest

from website import diagrams, home, navigation, pages
from website.pages import DOCS, ROOT


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("README.md", "index.md"),
        ("CHANGELOG.md", "project/changelog.md"),
        ("docs/README.md", "pages.md"),
        ("docs/reference/jwt.md", "reference/jwt.md"),
        ("docs/screenshots/keys.png", "screenshots/keys.png"),
        ("deploy/nginx/nginx.conf", "files/deploy/nginx/nginx.conf.md"),
        (".ci/run", "files/ci/run.md"),
    ],
)
def test_each_file_has_its_place(source: str, place: str) -> None:
    assert str(pages.place_of(ROOT / source)) == place


@pytest.mark.parametrize(
    ("source", "link"),
    [
        ("README.md", "(tutorial/first-ten-minutes.md)"),
        ("README.md", "(project/changelog.md)"),
        ("docs/README.md", "(reference/configuration.md)"),
        ("docs/reference/configuration.md", "(../files/config/sidecar.yaml.md)"),
        ("docs/reference/configuration.md", "(behaviour.md#targets)"),
        ("docs/reference/configuration.md", "(https://www.w3.org/TR/trace-context/)"),
        ("docs/explanation/performance.md", "(performance-hit.svg)"),
        ("CONTRIBUTING.md", "(../architecture.md#glossary)"),
    ],
)
def test_a_link_leads_to_the_place_of_what_it_led_to(source: str, link: str) -> None:
    assert f"]{link}" in pages.page_of(ROOT / source)


def test_a_bar_in_a_cell_s_code_keeps_its_sign_and_loses_its_backslash() -> None:
    page = pages.page_of(DOCS / "reference" / "configuration.md")
    assert '<code>&#123;"auth0&#124;5f7c": acme&#125;</code>' in page
    assert "\\|" not in page


def test_code_is_left_alone() -> None:
    text = "[a](b)\n\n```md\n[a](b)\n```\n\n   ````sh\n```\n[a](b)\n   ````\n[a](b)\n"
    changed = pages.outside_code(text, lambda prose: prose.replace("[a](b)", "x"))
    assert changed == "x\n\n```md\n[a](b)\n```\n\n   ````sh\n```\n[a](b)\n   ````\nx\n"


@pytest.mark.parametrize(
    ("text", "indented"),
    [
        ("- a\n  b\n\nc", "- a\n    b\n\nc"),
        (
            "1. a\n\n   ```sh\n   if x\n     y\n   ```\n2. b",
            "1. a\n\n    ```sh\n    if x\n      y\n    ```\n2. b",
        ),
        ("1. a\n   - b\n     c\n   - d\n2. e", "1. a\n    - b\n        c\n    - d\n2. e"),
        ("```yaml\nroutes:\n  - path: /\n```\ntext", "```yaml\nroutes:\n  - path: /\n```\ntext"),
        ("a\n- not a list within\n", "a\n- not a list within\n"),
    ],
)
def test_what_belongs_to_an_item_is_indented_by_four(text: str, indented: str) -> None:
    assert pages.indent_lists(text) == indented


def test_a_linked_file_becomes_a_page_with_its_text_and_a_directory_one_with_all_its_files() -> (
    None
):
    assert ROOT / "deploy" / "nginx" / "nginx.conf" in pages.linked_files()
    page = pages.page_of_file(ROOT / "deploy" / "nginx" / "nginx.conf")
    assert page.startswith("# deploy/nginx/nginx.conf\n\n````nginx\n")
    assert (ROOT / "deploy" / "nginx" / "nginx.conf").read_text().rstrip() in page
    directory = pages.page_of_file(ROOT / "deploy" / "fail2ban")
    files = [path for path in (ROOT / "deploy" / "fail2ban").rglob("*") if path.is_file()]
    assert directory.count("\n## ") == len(files) > 1


def test_the_navigation_has_every_page_once() -> None:
    listed = list(navigation.places(navigation.navigation()))
    assert sorted(listed) == sorted(str(pages.place_of(source)) for source in pages.sources())


def test_the_navigation_is_by_kind_and_how_to_by_what_one_wants_to_do() -> None:
    kinds = {entry.title: entry for entry in navigation.navigation()}
    assert [*kinds] == ["Home", "Tutorial", "How-to", "Reference", "Explanation", "Project"]
    groups = [entry.title for entry in kinds["How-to"].inner]
    assert groups[:2] == ["Set it up", "Deploy it"]
    assert kinds["Reference"].inner[0].place == "reference/configuration.md"


def test_every_diagram_is_drawn_and_no_drawing_is_left_over() -> None:
    advice = "run `make docs ARGS=--draw`, and commit what it draws"
    assert diagrams.undrawn() == [], advice
    assert diagrams.unused() == [], advice


def test_a_diagram_is_shown_as_its_drawing() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    shown = diagrams.with_drawings(text)
    assert (
        text.count("```mermaid")
        == shown.count('<figure class="diagram" data-search-exclude><svg')
        > 0
    )
    assert "```mermaid" not in shown


def test_a_diagram_that_is_not_drawn_is_told() -> None:
    with pytest.raises(pages.Unbuilt, match="--draw"):
        diagrams.with_drawings("```mermaid\nflowchart TD\n    new --> newer\n```\n")


def test_the_ways_to_go_on_stand_below_the_first_paragraph_and_lead_to_pages() -> None:
    page = home.with_ways(pages.page_of(ROOT / "README.md"))
    assert page.index("An authenticating") < page.index('<nav class="ways"') < page.index("```")
    places = {str(pages.place_of(source)) for source in pages.sources()}
    linked = re.findall(r'<a href="([^"]+)/">', page)
    assert linked
    assert [link for link in linked if f"{link}.md" not in places] == []
