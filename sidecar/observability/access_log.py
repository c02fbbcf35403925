"""The access log: one line of JSON for each request.

Lines are handed to a thread in batches (``observability.line_writer``), so that no request waits
for a disk. No field holds a recognisable credential: the query is never logged, and whatever looks
like a token in a path is masked (``core.masking``).
"""

from __future__ import annotations

import asyncio
import json
from time import gmtime, strftime, time
from typing import Any, Final

from sidecar.core.masking import hide_tokens
from sidecar.core.model import ALL_FORMS
from sidecar.core.trace_context import TRACE_ID
from sidecar.observability.line_writer import LineWriter, WriteLock

_BATCH_SECONDS: Final = 0.05
_BATCH_LINES: Final = 512
_SAME_PARTS: Final = 4096
_SAME_CHARS: Final = 1024
_THREE_DIGITS: Final = [f"{number:03d}" for number in range(1000)]
_SHORT: Final = 1000  # hundredths of a millisecond
_SHORT_TIMES: Final = [format(hundredths / 100, ".2f") for hundredths in range(_SHORT)]


class RequestLog:
    """What the log, the metrics and the trace export need to know about one request.

    It is filled in while the request runs. Times are the event loop's, in seconds. An empty string
    stands for what is unknown.
    """

    __slots__ = (
        "account",
        "bytes_in",
        "bytes_out",
        "client",
        "code",
        "detail",
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
        """The ``traceparent`` that the upstream gets (``proxy.tracing.Trace``)."""
        self.parent_id: str | None = None
        """The parent of the sidecar's span; ``None``: the sidecar adds no span."""
        self.method = ""
        self.path = ""
        self.route = ""
        self.status = 0
        self.code = ""
        self.detail = ""
        """The sentence that the caller got with ``code``; it holds no part of a credential."""
        self.account = ""
        self.token_id = ""
        self.form = ""
        self.forms = ALL_FORMS
        """The forms that the route accepts; all forms until the route is known."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.upstream = ""
        self.upstream_seconds = 0.0


class LineFormatter:
    """Formats entries as lines; masks whatever looks like a token in a path."""

    def __init__(self, token_prefix: str) -> None:
        self._same = _SameParts(token_prefix)
        self._texts = _Texts()
        self._second = -1
        self._second_text = ""
        self._time_text = ""
        self._time_is_good_until = float("-inf")  # on the clock of ``line``

    def line(self, entry: RequestLog, now: float) -> str:
        """Return one line of JSON. ``now`` is the time on the clock of ``entry.started``."""
        if now >= self._time_is_good_until:
            self._read_time(now)
        trace = entry.traceparent
        trace_id = f'"{trace[TRACE_ID]}"' if trace else "null"
        before, after = self._same[
            entry.client, entry.method, entry.path, entry.route, entry.status, entry.code,
            entry.detail, entry.form, entry.upstream,
        ]  # fmt: skip
        token_id = entry.token_id
        token_text = f'"{token_id}"' if token_id.isalnum() else _text(token_id)
        return (
            f'{{"time":"{self._time_text}","request_id":"{entry.request_id}"'
            f',"trace_id":{trace_id},{before}'
            f',"account":{self._texts[entry.account]},"token_id":{token_text},{after}'
            f',"bytes_in":{entry.bytes_in},"bytes_out":{entry.bytes_out}'
            f',"duration_ms":{_milliseconds(now - entry.started)}'
            f',"upstream_ms":{_milliseconds(entry.upstream_seconds)}}}\n'
        )

    def _read_time(self, now: float) -> None:
        """Format the time (RFC 3339, UTC, with milliseconds) for the next millisecond."""
        milliseconds = int(time() * 1000)
        second = milliseconds // 1000
        if second != self._second:
            self._second = second
            self._second_text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        self._time_text = f"{self._second_text}.{_THREE_DIGITS[milliseconds - second * 1000]}Z"
        self._time_is_good_until = now + 0.001


class AccessLog:
    """Formats entries and hands them to the writer."""

    def __init__(
        self,
        path: str,
        token_prefix: str,
        loop: asyncio.AbstractEventLoop,
        lock: WriteLock | None = None,
    ) -> None:
        """Open ``path`` (``-``: standard output). Raises ``UsageError`` if it can't be opened.

        ``lock`` is shared with the other processes that write to ``path``.
        """
        self._loop = loop
        self._writer = LineWriter(path, lock)
        self._format = LineFormatter(token_prefix).line
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def dropped(self) -> int:
        """How many lines have been dropped because the writer fell behind."""
        return self._writer.dropped

    def write(self, entry: RequestLog, now: float) -> None:
        """Log a finished request. ``now`` is the event loop's time."""
        self.write_line(self._format(entry, now))

    def write_line(self, line: str) -> None:
        """Log a whole line, such as one of the audit log (``observability.audit``)."""
        lines = self._lines
        lines.append(line)
        if len(lines) >= _BATCH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(_BATCH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hand the pending lines to the writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            lines, self._lines = self._lines, []
            self._writer.write("".join(lines).encode(), len(lines))

    def reopen(self) -> None:
        """Write the pending lines, then open the path again, as after a rotation of the file."""
        self.flush()
        self._writer.reopen()

    def close(self) -> None:
        """Write the pending lines; wait at most two seconds for that."""
        self.flush()
        self._writer.close()


class _SameParts(dict[tuple[Any, ...], tuple[str, str]]):
    """Remembers the parts of a line before and after account and token, which many requests share.

    It holds a bounded number of them.
    """

    def __init__(self, token_prefix: str) -> None:
        self._prefix = token_prefix

    def __missing__(self, values: tuple[Any, ...]) -> tuple[str, str]:
        client, method, path, route, status, code, detail, form, upstream = values
        path = hide_tokens(path, self._prefix)
        before = (
            f'"client":{_text(client)},"method":{_text(method)},"path":{_text(path)}'
            f',"route":{_text(route)},"status":{status},"code":{_text(code)}'
            f',"detail":{_text(detail)}'
        )
        parts = before, f'"form":{_text(form)},"upstream":{_text(upstream)}'
        if len(before) <= _SAME_CHARS:
            if len(self) >= _SAME_PARTS:
                self.clear()
            self[values] = parts
        return parts


class _Texts(dict[str, str]):
    """Remembers the JSON strings of a bounded number of short, frequent texts."""

    def __missing__(self, value: str) -> str:
        text = _text(value)
        if len(text) <= _SAME_CHARS:
            if len(self) >= _SAME_PARTS:
                self.clear()
            self[value] = text
        return text


def _milliseconds(seconds: float) -> str:
    """Return milliseconds with two decimals."""
    hundredths = int(seconds * 100_000 + 0.5)
    return _SHORT_TIMES[hundredths] if 0 <= hundredths < _SHORT else format(seconds * 1000, ".2f")


def _text(value: str) -> str:
    """Return a JSON string, or ``null`` for an empty one."""
    if not value:
        return "null"
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return json.dumps(value)
