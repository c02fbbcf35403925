"""Where a command's audit lines go: to the service's own, if its log is a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.observability.audit import AuditLog, appending_to

if TYPE_CHECKING:
    from sidecar.config.settings import Settings


def audit_of(settings: Settings) -> AuditLog:
    """Return what notes an admin's changes; on standard error where there is no log file."""
    path = settings.access_log.path if settings.access_log.enabled else "-"
    return AuditLog(appending_to(path), settings.accounts.__contains__)
