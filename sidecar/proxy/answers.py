"""The proxy's own responses: a denial as bytes, with its challenge, ready to be sent.

What each code means is in ``sidecar.core.problems``.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Final

from sidecar.core.model import Denial, Form
from sidecar.core.problems import DOCUMENT_END, PROBLEM_TYPES, begin_document, status_of

_BEARER_ERRORS: Final = frozenset({"invalid_token", "malformed_credentials"})
_CHALLENGED: Final = 401
_MAX_CACHED: Final = 1024


class Challenges:
    """The ``WWW-Authenticate`` fields of a 401, for each set of forms a route accepts.

    RFC 6750 section 3 (Bearer) and RFC 7617 section 2.1 (Basic, UTF-8).
    """

    def __init__(self, realm: str, scheme: str = "Bearer") -> None:
        """``scheme`` is that of a token; Bearer is the only one that is registered."""
        self._scheme = scheme
        self._realm = realm.replace("\\", "\\\\").replace('"', '\\"')
        self._cached: dict[tuple[Denial, frozenset[Form]], bytes] = {}

    def fields(self, denial: Denial, forms: frozenset[Form]) -> bytes:
        """Return the header lines, one for each scheme that the forms allow."""
        key = (denial, forms)
        lines = self._cached.get(key)
        if lines is None:
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            lines = self._cached[key] = self._build(denial, forms)
        return lines

    def _build(self, denial: Denial, forms: frozenset[Form]) -> bytes:
        lines = []
        if forms - {Form.BASIC}:
            challenge = f'{self._scheme} realm="{self._realm}"'
            if denial.code in _BEARER_ERRORS:
                challenge += (
                    f', error="invalid_token", error_description="{_quotable(denial.detail)}"'
                )
            lines.append(f"WWW-Authenticate: {challenge}\r\n")
        if Form.BASIC in forms:
            lines.append(f'WWW-Authenticate: Basic realm="{self._realm}", charset="UTF-8"\r\n')
        return "".join(lines).encode("latin-1")


def render(
    denial: Denial,
    request_id: str,
    *,
    challenge: bytes = b"",
    closes: bool = False,
    keeps_alive_1_0: bool = False,
    is_head_request: bool = False,
    lines: bytes = b"",
) -> bytes:
    """Return the whole HTTP/1.1 response to a denial.

    ``challenge`` holds the ``WWW-Authenticate`` lines; only a 401 carries them. With
    ``keeps_alive_1_0``, the response tells an HTTP/1.0 client that its connection stays open.
    ``request_id`` must be one that ``core.headers.is_sane_request_id`` accepts. ``lines`` are
    header lines to add.
    """
    key = (denial, challenge, closes, keeps_alive_1_0)
    frame = _frames.get(key) or _build_frame(key)
    sent_id = request_id.encode()
    body = frame.document + sent_id + DOCUMENT_END
    return b"%b%d\r\nDate: %b\r\nX-Request-Id: %b\r\n%b%b%b" % (
        frame.head_start,
        len(body),
        http_date(),
        sent_id,
        lines,
        frame.head_end,
        b"" if is_head_request else body,
    )


def render_preflight(lines: bytes, request_id: str, connection: bytes) -> bytes:
    """Return the whole response to a preflight: ``lines`` (``core.cors``), and no body.

    ``connection`` is empty, or ``CLOSE`` or ``KEEP_ALIVE`` of ``core.headers``.
    """
    head = b"HTTP/1.1 204 No Content\r\nDate: %b\r\nX-Request-Id: %b\r\n%b%b\r\n"
    return head % (http_date(), request_id.encode(), lines, connection)


class _Frame:
    """The fixed parts of a response: the head up to Content-Length's value, the head after the
    varying fields, and the document up to the request id.
    """

    __slots__ = ("document", "head_end", "head_start")

    def __init__(self, head_start: bytes, head_end: bytes, document: bytes) -> None:
        self.head_start = head_start
        self.head_end = head_end
        self.document = document


_Key = tuple[Denial, bytes, bool, bool]
_frames: Final[dict[_Key, _Frame]] = {}  # compiled, half of what lru_cache takes


def _build_frame(key: _Key) -> _Frame:
    denial, challenge, closes, keeps_alive_1_0 = key
    if len(_frames) >= _MAX_CACHED:
        _frames.clear()
    head_start, head_end = _render_head(denial, challenge, closes, keeps_alive_1_0)
    frame = _frames[key] = _Frame(head_start, head_end, begin_document(denial))
    return frame


def _render_head(
    denial: Denial, challenge: bytes, closes: bool, keeps_alive_1_0: bool
) -> tuple[bytes, bytes]:
    """Return the head up to the value of Content-Length, and the head after the varying fields."""
    row, status = PROBLEM_TYPES[denial.code], status_of(denial)
    head_start = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        "Content-Type: application/problem+json\r\nCache-Control: no-store\r\nContent-Length: "
    )
    lines = []
    retry_after = denial.retry_after_seconds or row.retry_after_seconds
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}\r\n")
    if denial.code == "method_not_allowed":
        lines.append(f"Allow: {', '.join(denial.allow)}\r\n")
    if closes:
        lines.append("Connection: close\r\n")
    elif keeps_alive_1_0:
        lines.append("Connection: keep-alive\r\n")
    head_end = "".join(lines).encode("latin-1")
    if status == _CHALLENGED:
        head_end += challenge
    return head_start.encode("latin-1"), head_end + b"\r\n"


class _DateClock:
    """The text of the ``Date`` field, formatted once a second."""

    __slots__ = ("second", "text")

    def __init__(self) -> None:
        self.second = 0
        self.text = b""


_clock: Final = _DateClock()


def http_date() -> bytes:
    """Return the current time as HTTP writes it (RFC 9110 section 5.6.7)."""
    now = int(time())
    if now != _clock.second:
        _clock.second = now
        _clock.text = formatdate(now, usegmt=True).encode("ascii")
    return _clock.text


def _quotable(text: str) -> str:
    """Keep what a quoted error_description may hold (RFC 6750 section 3)."""
    return "".join(letter for letter in text if letter in _DESCRIPTION_LETTERS)


_DESCRIPTION_LETTERS: Final = frozenset(map(chr, range(0x20, 0x7F))) - set('"\\')
