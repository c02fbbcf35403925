"""What an audit line holds, what it never holds, and that a flood does not fill the disk."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import TokenKind, TokenRecord
from sidecar.observability.audit import MOST_LINES_A_SECOND, Actor, AuditLog, appending_to

SECRET = "sct_" + "s3cr3t" * 10
RECORD = TokenRecord(
    id="token000000001",
    account="acme",
    name='shop "№ 1"',
    kind=TokenKind.ACCESS,
    digest="ab" * 32,
    created_at=0.0,
    expires_at=None,
)
TOKEN = {"token_id": RECORD.id, "name": RECORD.name, "kind": "access"}
FILTER = Path(__file__).parents[3] / "deploy" / "fail2ban" / "filter.d" / "auth-sidecar.conf"


class Journal:
    """The lines written, and the clock that they were written by."""

    def __init__(self) -> None:
        self.now = 1_764_000_000.25
        self.data = b""
        self.log = AuditLog(self._write, {"acme"}.__contains__, now=lambda: self.now)

    def _write(self, lines: bytes, count: int) -> None:
        assert lines.count(b"\n") == count
        assert lines.endswith(b"\n")
        self.data += lines

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data.splitlines()]


@pytest.fixture
def journal() -> Journal:
    return Journal()


Tell = Callable[[AuditLog], None]

EVENTS: list[tuple[Tell, dict[str, object]]] = [
    (
        lambda log: log.token_created(RECORD, "192.0.2.1", Actor.PORTAL),
        {"event": "token_created", "client": "192.0.2.1", "actor": "portal", **TOKEN},
    ),
    (
        lambda log: log.token_imported(RECORD, None, Actor.CLI),
        {"event": "token_imported", "client": None, "actor": "cli", **TOKEN},
    ),
    (
        lambda log: log.token_revoked(RECORD, "192.0.2.1", Actor.API),
        {"event": "token_revoked", "client": "192.0.2.1", "actor": "api", **TOKEN},
    ),
    (
        lambda log: log.token_rotated(RECORD, "token000000000", None, Actor.CLI),
        {
            "event": "token_rotated",
            "client": None,
            "actor": "cli",
            **TOKEN,
            "replaces": "token000000000",
        },
    ),
    (
        lambda log: log.sign_in_failed("acme", "192.0.2.1", Actor.PROXY),
        {"event": "sign_in_failed", "client": "192.0.2.1", "actor": "proxy"},
    ),
    (
        lambda log: log.ban_set(None, "acme", 299.7),
        {"event": "ban_set", "client": None, "actor": "proxy", "seconds": 300},
    ),
    (
        lambda log: log.ban_cleared("192.0.2.1", "acme", Actor.CLI),
        {"event": "ban_cleared", "client": "192.0.2.1", "actor": "cli"},
    ),
]


@pytest.mark.parametrize(("tell", "line"), EVENTS, ids=[str(line["event"]) for _, line in EVENTS])
def test_a_line_has_time_event_actor_and_client(
    journal: Journal, tell: Tell, line: dict[str, object]
) -> None:
    tell(journal.log)
    assert journal.lines == [{"time": "2025-11-24T16:00:00.250Z", "account": "acme", **line}]
    assert RECORD.digest.encode() not in journal.data


@pytest.mark.parametrize("name", [SECRET, "acne", "hunter2", ""])
def test_an_unknown_account_name_is_not_written_as_it_may_be_a_password(
    journal: Journal, name: str
) -> None:
    journal.log.sign_in_failed(name, "192.0.2.1", Actor.PROXY)
    journal.log.ban_set("192.0.2.1", name, 300)
    assert [line["account"] for line in journal.lines] == [None, None]
    assert not name or name.encode() not in journal.data


def test_a_flood_of_failures_is_limited_and_the_lines_left_out_are_counted(
    journal: Journal,
) -> None:
    for _ in range(MOST_LINES_A_SECOND + 500):
        journal.log.sign_in_failed("acme", "192.0.2.1", Actor.PROXY)
    assert len(journal.lines) == MOST_LINES_A_SECOND
    journal.now += 1
    journal.log.sign_in_failed("acme", "192.0.2.1", Actor.PROXY)
    journal.log.sign_in_failed("acme", "192.0.2.1", Actor.PROXY)
    assert [line.get("suppressed") for line in journal.lines[-2:]] == [500, None]


def test_a_flood_of_one_event_leaves_room_for_the_others(journal: Journal) -> None:
    for _ in range(1000):
        journal.log.sign_in_failed("acme", "192.0.2.1", Actor.PROXY)
        journal.log.ban_set("192.0.2.1", None, 300)
    journal.log.token_revoked(RECORD, None, Actor.CLI)
    assert len(journal.lines) == 2 * MOST_LINES_A_SECOND + 1


def test_the_last_lines_left_out_are_counted_at_the_end(journal: Journal) -> None:
    for _ in range(MOST_LINES_A_SECOND + 3):
        journal.log.ban_set("192.0.2.1", None, 300)
    journal.log.close()
    journal.log.close()
    assert [line.get("suppressed") for line in journal.lines[MOST_LINES_A_SECOND:]] == [3]


@given(st.text(), st.text(), st.text())
def test_an_event_is_one_line_of_json_whatever_it_holds(name: str, client: str, old: str) -> None:
    journal = Journal()
    record = TokenRecord("id", "acme", name, TokenKind.ACCESS, "ab" * 32, 0.0, None)
    journal.log.token_rotated(record, old, client, Actor.API)
    assert journal.data.count(b"\n") == 1
    (line,) = journal.lines
    assert (line["name"], line["client"], line["replaces"]) == (name, client, old)


# Where a command's lines go.


def unexpected(lines: bytes, count: int, error: OSError) -> None:
    raise AssertionError(error)


def test_a_command_appends_to_the_access_log(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_bytes(b"before\n")
    appending_to(str(file), unexpected)(b"line\n", 1)
    assert file.read_bytes() == b"before\nline\n"


@pytest.mark.parametrize("path", ["absent/access.log", "/dev/full"])
def test_a_command_writes_elsewhere_if_it_cannot_append_to_a_file(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere: list[bytes] = []
    monkeypatch.chdir(tmp_path)
    appending_to(path, lambda lines, count, error: elsewhere.append(lines))(b"line\n", 1)
    assert elsewhere == [b"line\n"]
    assert not [*tmp_path.iterdir()], "a file made here would be the admin's, not the service's"


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.touch(0o640)
    file.chmod(0o640)
    appending_to(str(file), unexpected)(b"line\n", 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


# The fail2ban filter.

ADDRESS = r"(?P<ip>[0-9a-fA-F:.]+)(?:/(?P<cidr>\d+))?"


def filter_settings() -> dict[str, str]:
    text = re.sub(r"\n[ \t]+", "\n\t", FILTER.read_text(encoding="utf-8"))
    return {
        key.strip(): value.replace("\n\t", "\n").strip()
        for key, value in re.findall(r"^([a-z-]+)[ ]*=((?:.*)(?:\n\t.*)*)", text, re.M)
    }


def banned_by(line: bytes, mode: str = "normal") -> str | None:
    """Return the address that the filter finds as fail2ban does, after removing the time."""
    text = re.sub(r'"time":"[^"]+"', "", line.decode().rstrip("\n"))
    for pattern in filter_settings()[f"failregex-{mode}"].split("\n"):
        match = re.search(pattern.replace("<SUBNET>", ADDRESS), text)
        if match:
            return match["ip"]
    return None


def test_the_filter_finds_the_address_of_a_ban(journal: Journal) -> None:
    journal.log.ban_set("192.0.2.1", None, 300)
    journal.log.ban_set("2001:db8::/64", None, 300)
    found = [banned_by(line) for line in journal.data.splitlines()]
    assert found == ["192.0.2.1", "2001:db8::"]


def test_the_strict_mode_also_finds_single_failures(journal: Journal) -> None:
    journal.log.sign_in_failed("acme", "192.0.2.1", Actor.PORTAL)
    assert banned_by(journal.data) is None
    assert banned_by(journal.data, "aggressive") == "192.0.2.1"


@pytest.mark.parametrize("mode", ["normal", "aggressive"])
def test_the_filter_finds_no_address_in_events_that_are_not_failures(
    journal: Journal, mode: str
) -> None:
    forged = '","event":"ban_set","client":"203.0.113.9","actor":"proxy"'
    record = TokenRecord("id", "acme", forged, TokenKind.ACCESS, "ab" * 32, 0.0, None)
    journal.log.token_created(record, "192.0.2.1", Actor.API)
    journal.log.ban_set(None, "acme", 300)
    journal.log.ban_cleared("192.0.2.1", None, Actor.CLI)
    journal.log.token_revoked(RECORD, "192.0.2.1", Actor.API)
    assert [banned_by(line, mode) for line in journal.data.splitlines()] == [None] * 4
