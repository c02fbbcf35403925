"""Where a command's audit lines go: a file, standard error, or syslog, and never a terminal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from sidecar.cli import auditing
from sidecar.cli.auditing import open_audit_log
from sidecar.config.settings import Settings
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.observability.audit import Actor

RECORD = TokenRecord("token000001", "acme", "shop", TokenKind.ACCESS, "ab" * 32, 0.0, None)


class Errors(io.TextIOWrapper):
    """Standard error: a terminal, or a pipe."""

    def __init__(self, is_terminal: bool) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, "utf-8", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What syslog gets."""
    lines: list[str] = []
    monkeypatch.setattr(auditing, "SYSLOG_SOCKET", tmp_path)
    monkeypatch.setattr("syslog.syslog", lambda priority, line: lines.append(line))
    monkeypatch.setattr("syslog.openlog", lambda *_: None)
    return lines


def audit(monkeypatch: pytest.MonkeyPatch, access_log: object, *, is_terminal: bool) -> str:
    """Note an event as a command does; return what standard error shows."""
    errors = Errors(is_terminal)
    monkeypatch.setattr(sys, "stderr", errors)
    settings = Settings.model_validate(
        {
            "upstreams": {"a": {"url": "http://127.0.0.1:9"}},
            "routes": [{"path": "/**"}],
            "access_log": access_log,
        },
        context={"directory": Path()},
    )
    open_audit_log(settings).token_created(RECORD, None, Actor.CLI)
    return errors.raw_bytes.getvalue().decode()


def event_of(line: str) -> str:
    event: str = json.loads(line)["event"]
    return event


@pytest.mark.parametrize("access_log", [{}, {"path": "-"}, {"enabled": False}])
def test_without_a_file_a_script_finds_the_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], access_log: object
) -> None:
    shown = audit(monkeypatch, access_log, is_terminal=False)
    assert (event_of(shown), logged) == ("token_created", [])


@pytest.mark.parametrize("access_log", [{}, {"path": "-"}, {"enabled": False}])
def test_without_a_file_a_terminal_shows_nothing_and_syslog_gets_the_line(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], access_log: object
) -> None:
    assert audit(monkeypatch, access_log, is_terminal=True) == ""
    assert [*map(event_of, logged)] == ["token_created"]


def test_without_a_syslog_no_line_is_lost(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(auditing, "SYSLOG_SOCKET", tmp_path / "log")
    assert event_of(audit(monkeypatch, {}, is_terminal=True)) == "token_created"
    assert logged == []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_file_gets_the_line_whoever_looks_on(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], tmp_path: Path, is_terminal: bool
) -> None:
    file = tmp_path / "access.log"
    file.touch()
    assert audit(monkeypatch, {"path": str(file)}, is_terminal=is_terminal) == ""
    assert (event_of(file.read_text()), logged) == ("token_created", [])


def test_a_file_that_cannot_be_written_loses_no_line(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    asked = {"path": "/dev/full"}
    assert event_of(audit(monkeypatch, asked, is_terminal=False)) == "token_created"
    shown = audit(monkeypatch, asked, is_terminal=True)
    assert "the audit line went to syslog" in shown
    assert "No space left on device" in shown
    assert [*map(event_of, logged)] == ["token_created"]
