"""A program on a terminal of its own: what it shows is read, answers are typed at its prompts."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.patience import PATIENCE_SECONDS


def run_in_terminal(
    command: Sequence[str],
    answers: Sequence[tuple[str, str]] = (),
    *,
    cwd: Path,
    columns: int = 80,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a program to its end; return its exit status and all that the terminal showed.

    Each answer is a text to wait for and the keys that are typed then; ``\\x04`` is Ctrl-D.
    """
    reader, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with ExitStack() as opened:
        opened.callback(os.close, reader)
        process = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **(environment or {})},
            start_new_session=True,
            preexec_fn=_control_terminal,
        )
        os.close(terminal)
        shown, answered = "", 0
        for awaited, keys in answers:
            while awaited not in shown[answered:]:
                piece = _read_some(reader)
                assert piece, f"the program ended before it showed {awaited!r}: {shown}"
                shown += piece
            answered = shown.index(awaited, answered) + len(awaited)
            os.write(reader, keys.encode())
        while piece := _read_some(reader):
            shown += piece
        return process.wait(PATIENCE_SECONDS), shown.replace("\r\n", "\n")


def _control_terminal() -> None:
    """Make standard input this session's terminal, so that ^C typed there is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_some(terminal: int) -> str:
    """Return what a terminal shows next; nothing once no process has it open (EIO on Linux)."""
    ready, _, _ = select.select([terminal], [], [], PATIENCE_SECONDS)
    assert ready, "the program shows nothing more, and does not end"
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:
        return ""
