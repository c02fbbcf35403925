"""What a caller is told when it is not served: the one table of codes, statuses and titles.

``docs/reference/errors.md`` shows the same table, and a test holds the two together. Bodies are
``application/problem+json`` (RFC 9457) and never hold a part of a credential.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final

from sidecar.core.model import Denial, Form


@dataclass(frozen=True, slots=True)
class Answer:
    """One row: the status, a short title, and whether ``Retry-After`` goes with it (seconds)."""

    status: int
    title: str
    retry_after_seconds: int | None = None


ANSWERS: Final[dict[str, Answer]] = {
    "bad_request": Answer(400, "The request is malformed"),
    "unsafe_path": Answer(400, "The path is not safe to forward"),
    "ambiguous_credentials": Answer(400, "More than one credential"),
    "missing_credentials": Answer(401, "A credential is needed"),
    "malformed_credentials": Answer(401, "The credential is unreadable"),
    "invalid_token": Answer(401, "The token is not valid"),
    "invalid_password": Answer(401, "Wrong account or password"),
    "account_disabled": Answer(403, "The account is disabled"),
    "not_allowed": Answer(403, "Not allowed"),
    "no_route": Answer(404, "No such route"),
    "method_not_allowed": Answer(405, "Method not allowed"),
    "request_timeout": Answer(408, "The request took too long to arrive"),
    "body_too_large": Answer(413, "The body is too large"),
    "uri_too_long": Answer(414, "The request target is too long"),
    "too_many_failures": Answer(429, "Too many failures", 60),
    "headers_too_large": Answer(431, "The header fields are too large"),
    "internal_error": Answer(500, "The proxy failed"),
    "upstream_unreachable": Answer(502, "The upstream can't be reached"),
    "upstream_broken": Answer(502, "The upstream's answer is broken"),
    "store_unavailable": Answer(503, "The token store can't be asked", 1),
    "overloaded": Answer(503, "Too busy", 1),
    "draining": Answer(503, "Shutting down", 1),
    "upstream_timeout": Answer(504, "The upstream took too long"),
}

_DETAILS: Final[dict[str, str]] = {
    "internal_error": "The proxy could not handle this request; its log names the request id.",
    "upstream_unreachable": "The service behind the proxy can't be reached.",
    "upstream_broken": "The service behind the proxy gave no usable answer.",
    "upstream_timeout": "The service behind the proxy did not answer in time.",
    "store_unavailable": "Credentials can't be checked right now; try again shortly.",
    "overloaded": "The proxy is too busy right now; try again shortly.",
    "draining": "The proxy is shutting down; try again shortly.",
}
_DENIAL_OF_FAULT: Final = {code: Denial(code, detail) for code, detail in _DETAILS.items()}
_BEARER_ERRORS: Final = frozenset({"invalid_token", "malformed_credentials"})
_CHALLENGED: Final = 401
_MOST_KNOWN: Final = 1024


def denial_for(fault_code: str) -> Denial:
    """Return what a caller is told of a fault; the fault's own message is for the log."""
    return _DENIAL_OF_FAULT[fault_code]


class Challenges:
    """The ``WWW-Authenticate`` fields of a 401, for each set of forms a route accepts.

    RFC 6750 section 3 (Bearer) and RFC 7617 section 2.1 (Basic, UTF-8).
    """

    def __init__(self, realm: str) -> None:
        self._realm = realm.replace("\\", "\\\\").replace('"', '\\"')
        self._known: dict[tuple[Denial, frozenset[Form]], bytes] = {}

    def fields(self, denial: Denial, forms: frozenset[Form]) -> bytes:
        """Return the header lines, one for each scheme that the forms allow."""
        key = (denial, forms)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[key] = self._build(denial, forms)
        return known

    def _build(self, denial: Denial, forms: frozenset[Form]) -> bytes:
        lines = []
        if forms - {Form.BASIC}:
            challenge = f'Bearer realm="{self._realm}"'
            if denial.code in _BEARER_ERRORS:
                challenge += (
                    f', error="invalid_token", error_description="{_quotable(denial.detail)}"'
                )
            lines.append(f"WWW-Authenticate: {challenge}\r\n")
        if Form.BASIC in forms:
            lines.append(f'WWW-Authenticate: Basic realm="{self._realm}", charset="UTF-8"\r\n')
        return "".join(lines).encode("latin-1")


def problem(denial: Denial, request_id: str) -> bytes:
    """Return the problem document of a denial (RFC 9457)."""
    return _begin_problem(denial) + request_id.encode() + _END_OF_PROBLEM


_END_OF_PROBLEM: Final = b'"}\n'


@lru_cache(maxsize=1024)
def _begin_problem(denial: Denial) -> bytes:
    """Return the document up to the request id, which is the same for all who get this denial."""
    answer = ANSWERS[denial.code]
    members = {
        "title": answer.title,
        "status": answer.status,
        "code": denial.code,
        "detail": denial.detail,
    }
    return json.dumps(members, ensure_ascii=False)[:-1].encode() + b', "request_id": "'


def render(
    denial: Denial,
    request_id: str,
    *,
    challenge: bytes = b"",
    closes: bool = False,
    keeps_alive_1_0: bool = False,
    is_head_request: bool = False,
) -> bytes:
    """Return the whole HTTP/1.1 response to a denial.

    ``challenge`` are the ``WWW-Authenticate`` lines, used with a 401 alone. ``keeps_alive_1_0``: an
    HTTP/1.0 client's connection stays open, which must be said. ``request_id`` is one that
    ``core.headers.is_sane_request_id`` holds for sane.
    """
    key = (denial, challenge, closes, keeps_alive_1_0)
    frame = _frames.get(key) or _build_frame(key)
    sent_id = request_id.encode()
    body = frame.document + sent_id + _END_OF_PROBLEM
    return b"%b%d\r\nDate: %b\r\nX-Request-Id: %b\r\n%b%b" % (
        frame.begun,
        len(body),
        http_date(),
        sent_id,
        frame.ended,
        b"" if is_head_request else body,
    )


class _Frame:
    """What a response has besides its time and request id: the head up to the value of
    Content-Length, the head behind what varies, and the document up to the request id.
    """

    __slots__ = ("begun", "document", "ended")

    def __init__(self, begun: bytes, ended: bytes, document: bytes) -> None:
        self.begun = begun
        self.ended = ended
        self.document = document


_Key = tuple[Denial, bytes, bool, bool]
_frames: Final[dict[_Key, _Frame]] = {}  # compiled, half of what lru_cache takes


def _build_frame(key: _Key) -> _Frame:
    denial, challenge, closes, keeps_alive_1_0 = key
    if len(_frames) >= _MOST_KNOWN:
        _frames.clear()
    begun, ended = _render_head(denial, challenge, closes, keeps_alive_1_0)
    frame = _frames[key] = _Frame(begun, ended, _begin_problem(denial))
    return frame


def _render_head(
    denial: Denial, challenge: bytes, closes: bool, keeps_alive_1_0: bool
) -> tuple[bytes, bytes]:
    """Return a head's bytes up to the value of Content-Length, and those behind what varies."""
    answer = ANSWERS[denial.code]
    begun = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        "Content-Type: application/problem+json\r\nCache-Control: no-store\r\nContent-Length: "
    )
    lines = []
    retry_after = denial.retry_after_seconds or answer.retry_after_seconds
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}\r\n")
    if denial.code == "method_not_allowed":
        lines.append(f"Allow: {', '.join(denial.allow)}\r\n")
    if closes:
        lines.append("Connection: close\r\n")
    elif keeps_alive_1_0:
        lines.append("Connection: keep-alive\r\n")
    ended = "".join(lines).encode("latin-1")
    if answer.status == _CHALLENGED:
        ended += challenge
    return begun.encode("latin-1"), ended + b"\r\n"


class _DateClock:
    """The ``Date`` field's text, made once a second."""

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
