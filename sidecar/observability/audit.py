"""What an auditor reads: one JSON object a line for whatever happens to tokens and sign-ins.

The lines stand in the access log's stream and are told apart by ``event``, where a request's line
has ``status``. Time, event and client come first, so that a filter need not look past anything that
a caller chose. No line holds a secret; a name that is no account's is not written either, as it may
be a password that was typed into the wrong field.
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
"""Of each event that strangers cause; what is beyond is counted, and told by the next line."""

Write = Callable[[bytes, int], None]
"""Takes whole lines and how many there are (as ``line_writer.LineWriter.write``)."""


class Actor(StrEnum):
    """Through which door something was done."""

    CLI = "cli"
    PORTAL = "portal"
    API = "api"
    PROXY = "proxy"


class AuditLog:
    """Writes a line for each event. ``is_account`` tells whether an account is declared.

    ``client`` is an address, ``None`` at the command line. ``now`` gives Unix seconds.
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
        self._failures = _Bound("sign_in_failed")
        self._bans = _Bound("ban_set")

    def token_created(self, record: TokenRecord, client: str | None, actor: Actor) -> None:
        """Note that a token was made."""
        self._tell_of_token("token_created", record, client, actor)

    def token_imported(self, record: TokenRecord, client: str | None, actor: Actor) -> None:
        """Note that a token of another system was accepted."""
        self._tell_of_token("token_imported", record, client, actor)

    def token_revoked(self, record: TokenRecord, client: str | None, actor: Actor) -> None:
        """Note that a token was ended."""
        self._tell_of_token("token_revoked", record, client, actor)

    def token_rotated(
        self, successor: TokenRecord, old_id: str, client: str | None, actor: Actor
    ) -> None:
        """Note that a token took the place of another."""
        self._tell_of_token("token_rotated", successor, client, actor, replaces=old_id)

    def tokens_exported(self, tokens: int, actor: Actor) -> None:
        """Note that all tokens were written to a file, as digests."""
        self._tell("tokens_exported", None, actor, None, tokens=tokens)

    def tokens_restored(self, counts: Mapping[str, int], actor: Actor) -> None:
        """Note that exported tokens were taken back, and how many came to what."""
        self._tell("tokens_restored", None, actor, None, **counts)

    def sign_in_failed(self, account: str, client: str, actor: Actor) -> None:
        """Note a wrong password, or one for an account that does not exist."""
        self._tell_bounded(self._failures, client, actor, account)

    def ban_set(self, network: str | None, account: str | None, seconds: float) -> None:
        """Note that a network (as it is counted), an account or one from the other is banned."""
        self._tell_bounded(self._bans, network, Actor.PROXY, account, seconds=round(seconds))

    def ban_cleared(self, network: str | None, account: str | None, actor: Actor) -> None:
        """Note that an admin ended a ban."""
        self._tell("ban_cleared", network, actor, self._known(account))

    def close(self) -> None:
        """Write how many lines were left out, if that is not written yet. The stream stays open."""
        for bound in (self._failures, self._bans):
            if bound.suppressed:
                self._tell(bound.event, None, Actor.PROXY, None, suppressed=bound.take_suppressed())

    def _tell_of_token(
        self,
        event: str,
        record: TokenRecord,
        client: str | None,
        actor: Actor,
        **more: object,
    ) -> None:
        token = {"token_id": record.id, "name": record.name, "kind": str(record.kind)}
        self._tell(event, client, actor, record.account, **token, **more)

    def _tell_bounded(
        self, bound: _Bound, client: str | None, actor: Actor, account: str | None, **more: object
    ) -> None:
        if not bound.has_room(self._now()):
            return
        if bound.suppressed:
            more["suppressed"] = bound.take_suppressed()
        self._tell(bound.event, client, actor, self._known(account), **more)

    def _tell(
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


class _Bound:
    """At most ``MOST_LINES_A_SECOND`` of an event: a flood of failures must not fill the disk."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.suppressed = 0
        self._second = 0
        self._lines = 0

    def has_room(self, now: float) -> bool:
        """Tell whether a line may be written now; if not, it is counted as suppressed."""
        second = int(now)
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= MOST_LINES_A_SECOND:
            return True
        self.suppressed += 1
        return False

    def take_suppressed(self) -> int:
        """Return the count and begin anew."""
        suppressed, self.suppressed = self.suppressed, 0
        return suppressed


def keep_no_audit() -> AuditLog:
    """Return an audit log that writes nothing."""
    return AuditLog(lambda lines, count: None, lambda name: False)


def write_to_stderr(lines: bytes, _: int) -> None:
    """Write where no access log is; a closed standard error is no fault."""
    with suppress(OSError, ValueError):
        sys.stderr.buffer.write(lines)
        sys.stderr.flush()


def appending_to(path: str) -> Write:
    """Return what a short-lived command writes its lines with: to the access log's file.

    It goes to standard error where there is no such file (``-``) or it can't be written. The file
    is never created here: it would belong to the admin, and the service could not write it.
    """

    def write(lines: bytes, count: int) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            with open(descriptor, "wb", buffering=0) as file:
                file.write(lines)
        except OSError:
            write_to_stderr(lines, count)

    return write_to_stderr if path == "-" else write


def _timestamp(now: float) -> str:
    """Return a time as RFC 3339 writes it, UTC, with milliseconds."""
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(now))}.{int(now % 1 * 1000):03d}Z"
