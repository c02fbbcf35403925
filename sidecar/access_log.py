"""One JSON line for each request, written by a thread so that a slow disk or pipe never stops
traffic.

Lines are gathered and handed over in batches. When the writer falls behind by more than
``BACKLOG_BYTES``, lines are dropped and counted, not requests. No field can hold a credential: the
query is never logged, and what looks like one of our tokens in a path is masked.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import threading
from time import gmtime, strftime, time
from typing import Any, Final

from sidecar.core.errors import UsageError
from sidecar.core.model import ALL_FORMS
from sidecar.core.trace_context import TRACE_ID

BACKLOG_BYTES: Final = 8 * 1024 * 1024
_BATCH_SECONDS: Final = 0.05
_BATCH_LINES: Final = 512
_SAME_PARTS: Final = 4096
_SAME_CHARS: Final = 1024
_CLOSE_SECONDS: Final = 2.0


class Entry:
    """What is noted of one request while it runs; seconds are the event loop's, ``None`` is
    unknown.
    """

    __slots__ = (
        "account",
        "bytes_in",
        "bytes_out",
        "client",
        "code",
        "form",
        "forms",
        "method",
        "parent_id",
        "path",
        "request_id",
        "route",
        "started",
        "status",
        "token_id",
        "traceparent",
        "upstream",
        "upstream_seconds",
    )

    def __init__(self, started: float, client: str) -> None:
        self.started = started
        self.client = client
        self.request_id = ""
        self.traceparent = ""
        """What the upstream is told of the trace (``tracing.Trace``)."""
        self.parent_id: str | None = None
        """Whose child the sidecar's span is; ``None``: there is none."""
        self.method = ""
        self.path = ""
        self.route = ""
        self.status = 0
        self.code = ""
        self.account = ""
        self.token_id = ""
        self.form = ""
        self.forms = ALL_FORMS
        """What the route accepts; every form until the route is known."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.upstream = ""
        self.upstream_seconds = 0.0


class LineFormatter:
    """Makes a line of an entry; what looks like a token of ours in a path is masked."""

    def __init__(self, token_prefix: str) -> None:
        self._same = _SamePart(token_prefix)
        self._milliseconds = 0
        self._time_text = ""

    def line(self, entry: Entry, now: float) -> str:
        """Return one line of JSON; ``now`` is on the clock of ``entry.started``."""
        trace = entry.traceparent
        trace_id = f'"{trace[TRACE_ID]}"' if trace else "null"
        same = (
            entry.client, entry.method, entry.path, entry.route, entry.status, entry.code,
            entry.account, entry.token_id, entry.form, entry.upstream,
        )  # fmt: skip
        return (
            f'{{"time":"{self._timestamp()}","request_id":"{entry.request_id}"'
            f',"trace_id":{trace_id},{self._same[same]}'
            f',"bytes_in":{entry.bytes_in},"bytes_out":{entry.bytes_out}'
            f',"duration_ms":{(now - entry.started) * 1000:.2f}'
            f',"upstream_ms":{entry.upstream_seconds * 1000:.2f}}}\n'
        )

    def _timestamp(self) -> str:
        """Return the time as RFC 3339 writes it, UTC, with milliseconds."""
        milliseconds = int(time() * 1000)
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            second, rest = divmod(milliseconds, 1000)
            text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
            self._time_text = f"{text}.{rest:03d}Z"
        return self._time_text


class AccessLog:
    """Formats entries and hands them to the writer."""

    def __init__(self, path: str, token_prefix: str, loop: asyncio.AbstractEventLoop) -> None:
        """Open ``path`` (``-``: standard output). Raises ``UsageError`` if that can't be done."""
        self._loop = loop
        self._writer = LineWriter(path)
        self._format = LineFormatter(token_prefix).line
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def dropped(self) -> int:
        """How many lines were dropped since the start because the writer fell behind."""
        return self._writer.dropped

    def write(self, entry: Entry, now: float) -> None:
        """Note a finished request; ``now`` is the event loop's time."""
        lines = self._lines
        lines.append(self._format(entry, now))
        if len(lines) >= _BATCH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(_BATCH_SECONDS, self.flush)

    def write_lines(self, data: bytes, count: int) -> None:
        """Take ``count`` whole lines that are made elsewhere (``sidecar.audit``)."""
        self._writer.write(data, count)

    def flush(self) -> None:
        """Hand what was gathered to the writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            lines, self._lines = self._lines, []
            self._writer.write("".join(lines).encode(), len(lines))

    def close(self) -> None:
        """Write what is left; waits for at most two seconds."""
        self.flush()
        self._writer.close()


class LineWriter:
    """A thread that writes bytes to a file, in order; never blocks who hands them over."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._refused_lines = 0  # counted by who hands over
        self._lost_lines = 0  # counted by the thread
        self._is_torn = False
        self._descriptor = _open(path)
        self._taken_bytes = 0  # counted by who hands over
        self._done_bytes = 0  # counted by the thread
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were dropped since the start."""
        return self._refused_lines + self._lost_lines

    def write(self, data: bytes, lines: int) -> None:
        """Take ``lines`` whole lines, or drop and count them if too much waits already."""
        if self._taken_bytes - self._done_bytes > BACKLOG_BYTES:
            self._refused_lines += lines
            return
        self._taken_bytes += len(data)
        self._queue.put(data)

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._descriptor)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._write_all(data)
            self._done_bytes += len(data)

    def _write_all(self, data: bytes) -> None:
        """Write, or count what is lost to a full disk or a closed pipe; the next batch tries again.

        A line cut in the middle is ended first, so that it spoils none but itself.
        """
        view = memoryview(data)
        try:
            if self._is_torn:
                os.write(self._descriptor, b"\n")
                self._is_torn = False
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            self._lost_lines += bytes(view).count(b"\n")
            self._is_torn |= len(view) < len(data) and data[-len(view) - 1 : -len(view)] != b"\n"


def _open(path: str) -> int:
    if path == "-":
        return os.dup(1)
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise UsageError(f"the access log {path} can't be opened: {error.strerror}") from None


class _SamePart(dict[tuple[Any, ...], str]):
    """The part of a line that a caller's requests share; a bounded number is remembered."""

    def __init__(self, token_prefix: str) -> None:
        self._prefix = token_prefix
        self._token = re.compile(re.escape(token_prefix) + r"[A-Za-z0-9_]{8,}")

    def __missing__(self, values: tuple[Any, ...]) -> str:
        client, method, path, route, status, code, account, token_id, form, upstream = values
        if self._prefix and self._prefix in path:
            path = self._token.sub(f"{self._prefix}[masked]", path)
        part = (
            f'"client":{_text(client)},"method":{_text(method)},"path":{_text(path)}'
            f',"route":{_text(route)},"status":{status},"code":{_text(code)}'
            f',"account":{_text(account)},"token_id":{_text(token_id)},"form":{_text(form)}'
            f',"upstream":{_text(upstream)}'
        )
        if len(part) <= _SAME_CHARS:
            if len(self) >= _SAME_PARTS:
                self.clear()
            self[values] = part
        return part


def _text(value: str) -> str:
    """Return a JSON string, or ``null`` for nothing."""
    if not value:
        return "null"
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return json.dumps(value)
