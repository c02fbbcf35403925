"""Where a command's audit lines go: into the service's access log, if that is a file.

Otherwise (``access_log.path: "-"``, or no access log) they go to standard error, where the service
manager or a script collects them. A terminal is not for JSON: what would go there goes to syslog,
which the journal reads too. Where there is no syslog, as in most containers, the terminal gets it
after all: no line is lost.
"""

from __future__ import annotations

import sys
import syslog
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.observability.audit import AuditLog, appending_to, write_to_stderr

if TYPE_CHECKING:
    from sidecar.config.settings import Settings

SYSLOG_NAME = "sidecar"
SYSLOG_SOCKET = Path("/dev/log")


def open_audit_log(settings: Settings) -> AuditLog:
    """Return the audit log for an admin's changes."""
    is_file = settings.access_log.enabled and settings.access_log.path != "-"
    write = appending_to(settings.access_log.path, _write_elsewhere) if is_file else _write_beside
    return AuditLog(write, settings.known_accounts.__contains__)


def _write_beside(lines: bytes, count: int) -> None:
    """Write lines to standard error, or to syslog if that is a terminal and there is a syslog."""
    if not _goes_to_syslog():
        write_to_stderr(lines, count)
        return
    syslog.openlog(SYSLOG_NAME, syslog.LOG_PID, syslog.LOG_AUTH)
    for line in lines.decode().splitlines():
        syslog.syslog(syslog.LOG_NOTICE, line)


def _goes_to_syslog() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and SYSLOG_SOCKET.exists()


def _write_elsewhere(lines: bytes, count: int, error: OSError) -> None:
    """Write lines beside the file, which could not be written, and say so to a person."""
    _write_beside(lines, count)
    if _goes_to_syslog():
        print(
            f"sidecar: the audit line went to syslog: {error.filename} can't be written "
            f"({error.strerror})",
            file=sys.stderr,
        )
