"""The audit log: one line of JSON for each event in the life of tokens, and for failed sign-ins.

The lines are part of the access log. They have an ``event``, where the line of a request has a
``status``. Time, event and client come first, so that a filter sees them before any text that a
caller chose. No line holds a secret. A name that is not an account's is left out as well: it could
be a password, typed into the wrong field.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from time import gmtime, strftime, time
from typing import Final

from sidecar.core.model import TokenRecord

MOST_LINES_A_SECOND: Final = 20
"""The limit for each event that anyone can cause; the next line has the number left out."""

Write = Callable[[bytes, int], None]
"""Takes whole lines and their number, as ``line_writer.LineWriter.write`` does."""


class Actor(StrEnum):
    """The interface through which something was done."""

    CLI = "cli"
    PORTAL = "portal"
    API = "api"
    PROXY = "proxy"


class AuditLog:
    """Writes a line for each event. ``is_account`` returns whether an account is declared.

    ``client`` is an address; ``None`` on the command line. ``now`` returns Unix seconds.
    """

    def __init__(
        self,
        write: Write,
        is_account: Callable[[str], bool],
        *,
        now: Callable[[], float] = time,
    ) -> None:
        self._write = write
        self._is_account = is_account
        self._now = now
        self._failures = _RateLimit("sign_in_failed")
        self._bans = _RateLimit("ban_set")

    def token_created(self, record: TokenRecord, client: str | None, actor: Actor) -> None:
        """Log that a token was created."""
        self._log_token("token_created", record, client, actor)

    def token_imported(self, record: TokenRecord, client: str | None, actor: Actor) -> None:
        """Log that a token of another system was imported."""
        self._log_token("token_imported", record, client, actor)

    def token_revoked(self, record: TokenRecord, client: str | None, actor: Actor) -> None:
        """Log that a token was revoked."""
        self._log_token("token_revoked", record, client, actor)

    def token_rotated(
        self, successor: TokenRecord, old_id: str, client: str | None, actor: Actor
    ) -> None:
        """Log that a token replaces another one."""
        self._log_token("token_rotated", successor, client, actor, replaces=old_id)

    def tokens_exported(self, tokens: int, actor: Actor) -> None:
        """Log that all tokens were exported, as digests."""
        self._log("tokens_exported", None, actor, None, tokens=tokens)

    def tokens_restored(self, counts: Mapping[str, int], actor: Actor) -> None:
        """Log that exported tokens were restored; ``counts`` are by outcome."""
        self._log("tokens_restored", None, actor, None, **counts)

    def sign_in_failed(self, account: str, client: str, actor: Actor) -> None:
        """Log a wrong password, or one for an account that does not exist."""
        self._log_bounded(self._failures, client, actor, account)

    def ban_set(self, network: str | None, account: str | None, seconds: float) -> None:
        """Log a ban of a network (as the throttle counts it), an account, or the pair of both."""
        self._log_bounded(self._bans, network, Actor.PROXY, account, seconds=round(seconds))

    def ban_cleared(self, network: str | None, account: str | None, actor: Actor) -> None:
        """Log that an admin has lifted a ban."""
        self._log("ban_cleared", network, actor, self._known(account))

    def close(self) -> None:
        """Log how many lines were left out since the last one. The stream stays open."""
        for bound in (self._failures, self._bans):
            if bound.suppressed:
                self._log(bound.event, None, Actor.PROXY, None, suppressed=bound.take_suppressed())

    def _log_token(
        self,
        event: str,
        record: TokenRecord,
        client: str | None,
        actor: Actor,
        **more: object,
    ) -> None:
        token = {"token_id": record.id, "name": record.name, "kind": str(record.kind)}
        self._log(event, client, actor, record.account, **token, **more)

    def _log_bounded(
        self,
        bound: _RateLimit,
        client: str | None,
        actor: Actor,
        account: str | None,
        **more: object,
    ) -> None:
        if not bound.has_room(self._now()):
            return
        if bound.suppressed:
            more["suppressed"] = bound.take_suppressed()
        self._log(bound.event, client, actor, self._known(account), **more)

    def _log(
        self, event: str, client: str | None, actor: Actor, account: str | None, **more: object
    ) -> None:
        line = {
            "time": _timestamp(self._now()),
            "event": event,
            "client": client,
            "actor": str(actor),
            "account": account,
            **more,
        }
        self._write(json.dumps(line, separators=(",", ":")).encode() + b"\n", 1)

    def _known(self, account: str | None) -> str | None:
        return account if account is not None and self._is_account(account) else None


class _RateLimit:
    """Limits an event to ``MOST_LINES_A_SECOND``: a flood of failures must not fill the disk."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.suppressed = 0
        self._second = 0
        self._lines = 0

    def has_room(self, now: float) -> bool:
        """Return whether a line may be written now; count it as suppressed if not."""
        second = int(now)
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= MOST_LINES_A_SECOND:
            return True
        self.suppressed += 1
        return False

    def take_suppressed(self) -> int:
        """Return the number of suppressed lines, and reset it."""
        suppressed, self.suppressed = self.suppressed, 0
        return suppressed


def keep_no_audit() -> AuditLog:
    """Return an audit log that writes nothing."""
    return AuditLog(lambda lines, count: None, lambda name: False)


def write_to_stderr(lines: bytes, _: int) -> None:
    """Write to standard error, without an access log; ignore that it may be closed."""
    with suppress(OSError, ValueError):
        sys.stderr.buffer.write(lines)
        sys.stderr.flush()


def appending_to(path: str, otherwise: Callable[[bytes, int, OSError], None]) -> Write:
    """Return a function with which a short-lived command appends lines to the access log's file.

    ``otherwise`` gets the lines if the file can't be written. It is never created: it would belong
    to the admin, and the service could not write to it.
    """

    def write(lines: bytes, count: int) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            with open(descriptor, "wb", buffering=0) as file:
                file.write(lines)
        except OSError as error:
            otherwise(lines, count, error)

    return write


def _timestamp(now: float) -> str:
    """Return a time in RFC 3339 format, in UTC, with milliseconds."""
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(now))}.{int(now % 1 * 1000):03d}Z"
