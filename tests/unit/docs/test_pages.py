"""The pages of the docs: each has a kind, is linked, keeps its lines short and leads somewhere.

What the pages show is tried: a configuration is loaded, a command is parsed.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from sidecar.cli.main import build_parser
from sidecar.config.load import load
from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import generate_key
from sidecar.core.passwords import hash_password
from tests.proxy_process import ROOT
from tests.redis_certificates import make_certificates

DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
TOP = ("README.md", "architecture.md")
KINDS = ("tutorial", "how-to", "reference", "explanation")
PAGES = sorted(DOCS.rglob("*.md"))
EVERY_PAGE = [*PAGES, *sorted(ROOT.glob("*.md"))]
MOST_CHARS = 120
ONE_LINE = "user sidecar on "  # an entry of an ACL file can't be broken

REST = {
    "upstreams": {"listener": {"url": "http://127.0.0.1:8080"}},
    "routes": [{"path": "/v1/dynamic/listener/{id}"}],
}
ENVIRONMENT = {"REDIS_PASSWORD": "secret", "COLLECTOR_TOKEN": "secret"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)


def prose_of(page: Path) -> str:
    """Return the text without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.M | re.S)


def blocks_of(page: Path, language: str) -> Iterator[str]:
    """Yield each block of code in a language, without the indentation of a list around it."""
    blocks = re.findall(rf"^( *```{language}\n.*?)^ *```", page.read_text("utf-8"), re.M | re.S)
    return (textwrap.dedent(block).split("\n", 1)[1] for block in blocks)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and its like make them."""
    anchors: list[str] = []
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.M):
        kept = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading).lower())
        anchor = kept.strip().replace(" ", "-")
        anchors.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return set(anchors)


def links_of(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor that each link within the project leads to."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if "://" not in link and not link.startswith("mailto:"):
            target, _, anchor = link.partition("#")
            yield (page.parent / target).resolve() if target else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_of_one_of_the_four_kinds(page: Path) -> None:
    place = page.relative_to(DOCS).parts
    assert place[:-1] in [(kind,) for kind in KINDS] or place[0] in TOP


def test_the_index_links_every_page() -> None:
    linked = {target for target, _ in links_of(INDEX)}
    assert [name_of(page) for page in PAGES if page != INDEX and page not in linked] == []


@every_page
def test_lines_are_short_except_rows_of_tables(page: Path) -> None:
    lines = enumerate(page.read_text("utf-8").splitlines(), 1)
    long = [number for number, line in lines if len(line) > MOST_CHARS and is_breakable(line)]
    assert long == []


def is_breakable(line: str) -> bool:
    return not line.startswith(("|", ONE_LINE))


@every_page
def test_a_link_with_an_anchor_leads_to_a_heading(page: Path) -> None:
    lost = [
        f"{target.name}#{anchor}"
        for target, anchor in links_of(page)
        if anchor and (target.suffix != ".md" or anchor not in anchors_of(target))
    ]
    assert lost == []


@every_page
def test_a_page_has_one_title_and_skips_no_level_of_heading(page: Path) -> None:
    levels = [len(signs) for signs in re.findall(r"^(#+) ", prose_of(page), re.M)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


@every_page
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:tests|deploy|docs|config/sidecar|examples|benchmarks)[/.][\w./-]+)`", prose_of(page)
    )
    made = {"benchmarks/results/", "config/sidecar.yaml"}
    assert [name for name in named if name not in made and not (ROOT / name).exists()] == []


def test_the_modules_and_classes_that_the_architecture_names_exist() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    files = set(re.findall(r"`([a-z]+/[a-z_]+\.py)`", text))
    classes = re.findall(r"`([a-z_]+/[a-z_]+\.py)` `([A-Z]\w+)", text)
    dotted = re.findall(r"`([a-z]+\.[a-z_]+)\.([A-Z]\w+)`", text)
    classes += [(f"{module.replace('.', '/')}.py", name) for module, name in dotted]
    elsewhere = ("builder/", "tests/", "website/")
    places = [name if name.startswith(elsewhere) else f"sidecar/{name}" for name in files]
    assert [name for name in places if not (ROOT / name).exists()] == []
    assert [
        (file, name)
        for file, name in classes
        if f"class {name}" not in (ROOT / "sidecar" / file).read_text("utf-8")
    ] == []


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the files that the pages' configurations name."""
    directory = tmp_path_factory.mktemp("pages")
    (directory / "keys").mkdir()
    for name in ("k1", "k2"):
        (directory / "keys" / f"{name}.pem").write_text(generate_key("EdDSA"))
    certificates = make_certificates(directory)
    certificates.certificate.rename(directory / "tls.crt")
    certificates.key.rename(directory / "tls.key")
    certificates.authority.rename(directory / "redis-ca.pem")
    secret = urlsafe_b64encode(b"a secret of the old system, shared").decode().rstrip("=")
    old_keys = {"keys": [{"kty": "oct", "alg": "HS256", "k": secret}]}
    (directory / "old-jwks.json").write_text(json.dumps(old_keys))
    keys = export_key_set([load_key("c1", "ES256", generate_key("ES256"))])
    (directory / "jwks.json").write_text(json.dumps(keys))
    return directory


CONFIGURATIONS = [(page, block) for page in EVERY_PAGE for block in blocks_of(page, "yaml")]


@pytest.mark.parametrize(
    "block", [block for _, block in CONFIGURATIONS], ids=[page.stem for page, _ in CONFIGURATIONS]
)
def test_every_configuration_shown_is_valid(block: str, directory: Path) -> None:
    shown = yaml.safe_load(block)
    rest = {key: value for key, value in REST.items() if key not in shown}
    text = (yaml.safe_dump(rest) if rest else "") + re.sub(
        r"\$argon2id\S+", hash_password("secret"), block
    )
    file = directory / "sidecar.yaml"
    file.write_text(text)
    load(file, ENVIRONMENT)


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words of every ``sidecar`` command that a shell block shows."""
    for block in blocks_of(page, "sh"):
        lexer = shlex.shlex(block.replace("\\\n", " "), posix=True, punctuation_chars="\n;|&<>()")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        words: list[str] = []
        for word in [*lexer, "\n"]:
            if set(word) <= set("\n;|&<>()"):
                if words:
                    yield words
                words = []
            elif word == "sidecar" or word.endswith("/bin/sidecar"):
                words = ["sidecar"]
            elif words:
                words.append(word)


COMMANDS = [(page, words) for page in EVERY_PAGE for words in commands_of(page)]


@pytest.mark.parametrize(
    "words", [words for _, words in COMMANDS], ids=[" ".join(words[:3]) for _, words in COMMANDS]
)
def test_every_command_shown_is_one(words: list[str]) -> None:
    assert build_parser().parse_args(words[1:]).run


def test_commands_and_configurations_are_found() -> None:
    assert len(COMMANDS) > 30
    assert len(CONFIGURATIONS) > 15
