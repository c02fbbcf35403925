"""Where a command's audit lines go: into the service's access log, if that is a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.observability.audit import AuditLog, appending_to

if TYPE_CHECKING:
    from sidecar.config.settings import Settings


def open_audit_log(settings: Settings) -> AuditLog:
    """Return the audit log for an admin's changes; it is standard error without a log file."""
    path = settings.access_log.path if settings.access_log.enabled else "-"
    return AuditLog(appending_to(path), settings.known_accounts.__contains__)
