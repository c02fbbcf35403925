"""What the docs hold that is made from the code is up to date, and reads well."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from sidecar.cli.main import build_parser
from sidecar.config.differences import is_applied_at_restart
from tests.proxy_process import ROOT
from website import command_pages, generated, settings_tables

WANTED = generated.wanted()
CONFIGURATION = settings_tables.PAGE.read_text("utf-8")
COMMANDS = command_pages.commands_page()


@pytest.mark.parametrize("path", WANTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_made_from_the_code_is_what_is_there(path: Path) -> None:
    assert path.read_text("utf-8") == WANTED[path], "run `make docs`, and commit what it writes"


def test_every_section_of_the_configuration_has_its_table() -> None:
    sections = {re.split(r"[.\[]", key.path)[0] for key in settings_tables.walk_keys()}
    marked = re.findall(r"^<!-- keys of (\w+), written by `make docs` -->$", CONFIGURATION, re.M)
    assert sorted(marked) == sorted(sections)


@pytest.mark.parametrize(
    "row",
    [
        "| `upstreams.NAME.connect_timeout` | duration above 0 | `3s` |",
        "| `routes[].methods` | list of methods | none |",
        "| `routes[].cors.preflight` | `answer` or `pass` | `answer` |",
        "| `routes[].accounts` | list of accounts and groups | none |",
        '| `listen.mode` | octal mode, in quotes | `"0660"` |',
        "| `listen.tls.certificate` | file | required |",
        "| `workers` | number from 1 to 1024, or `auto` | `1` |",
        "| `tracing.sample` | number from 0 to 1 | `1` |",
    ],
)
def test_a_row_says_what_a_key_holds_in_an_admin_s_words(row: str) -> None:
    assert row in CONFIGURATION


def test_a_key_that_waits_for_a_restart_says_so() -> None:
    rows = re.findall(r"^\| `([a-zA-Z_.\[\]]+)` \| (.+) \|$", CONFIGURATION, re.M)
    keys = {key.path for key in settings_tables.walk_keys()}
    said = {path for path, row in rows if "*Needs a restart.*" in row}
    assert said == {key for key in keys if is_applied_at_restart(key)}
    assert {"workers", "store.url", "listen.address"} <= said
    assert "drain.delay" not in said


def test_a_key_s_meaning_links_to_where_it_is_explained() -> None:
    assert "[PROXY header](behaviour.md#proxy-headers)" in CONFIGURATION


def test_every_command_and_every_option_is_on_the_page() -> None:
    commands = dict(command_pages.commands_of(build_parser(), "sidecar"))
    assert "sidecar token create" in commands
    headings = re.findall(r"^#{2,3} (sidecar .+)$", COMMANDS, re.M)
    assert headings == [*commands]
    for name, parser in commands.items():
        section = COMMANDS.partition(f" {name}\n")[2].partition("\n#")[0]
        for option in own_options(parser):
            assert f"{option}" in section, name


def own_options(parser: argparse.ArgumentParser) -> set[str]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    options = {option for action in parser._actions for option in action.option_strings}
    return set() if groups else options - {"-h", "--help"}


def test_what_is_required_is_not_in_brackets() -> None:
    assert "sidecar token create [--config FILE] [--json] --account A --name N" in COMMANDS
    assert "sidecar explain METHOD URL" in COMMANDS
    assert "sidecar store import [--config FILE] [--json] [FILE]" in COMMANDS


def test_examples_stand_before_the_usage_and_what_one_types_is_code() -> None:
    parser = argparse.ArgumentParser(description="Count to three.")
    parser.examples = ("sidecar count --up", "sidecar count")  # type: ignore[attr-defined]
    parser.add_argument(
        "--up",
        action="store_true",
        help="count %(dest)s|wards, like $HOME, /a/**, http://a:1 (default: no)",
    )
    section = command_pages._section("sidecar count", parser)
    assert section == (
        "Count to three.\n\n"
        "```sh\nsidecar count --up\nsidecar count\n```\n\n"
        "```text\nsidecar count [--up]\n```\n\n"
        "| option | means |\n|---|---|\n"
        "| `--up` | Count up\\|wards, like `$HOME`, `/a/**`, `http://a:1` (default: no). |\n"
    )
