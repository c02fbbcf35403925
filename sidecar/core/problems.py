"""Every problem type that the sidecar answers with: its code, status, title and text, in one table.

A refusal or an error is answered with a problem document (RFC 9457), which never holds any part of
a credential. ``code`` is stable, and programs may rely on it; ``title`` and ``detail`` are for
people. ``docs/reference/errors.md`` lists the proxy's problems, ``docs/reference/portal.md`` those
of the token API;
tests hold both pages to this table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from sidecar.core.model import Denial

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One row: what is the same for every problem with this code."""

    status: int
    title: str
    detail: str = ""
    """The text where there is nothing to add. Empty: each ``Denial`` brings its own."""
    retry_after_seconds: int | None = None
    """``Retry-After``, unless the ``Denial`` knows better; ``None``: the field is not sent."""


PROBLEM_TYPES: Final[dict[str, ProblemType]] = {
    "bad_request": ProblemType(400, "The request is malformed", "The request can't be read."),
    "unsafe_path": ProblemType(400, "The path is not safe to forward"),
    "ambiguous_credentials": ProblemType(400, "More than one credential"),
    "missing_credentials": ProblemType(401, "A credential is needed"),
    "malformed_credentials": ProblemType(401, "The credential is unreadable"),
    "invalid_token": ProblemType(401, "The token is not valid"),
    "invalid_password": ProblemType(401, "Wrong account or password"),
    "account_disabled": ProblemType(403, "The account is disabled"),
    "not_allowed": ProblemType(403, "Not allowed"),
    "cross_site": ProblemType(
        403, "Sent by a page of another site", "A page of another site may not do this."
    ),
    "no_route": ProblemType(404, "No such route"),
    "not_found": ProblemType(404, "Nothing is here", "There is nothing at this address."),
    "unknown_token": ProblemType(404, "No such token"),
    "method_not_allowed": ProblemType(
        405,
        "Method not allowed",
        "This address takes other methods; `Allow` lists them.",
    ),
    "request_timeout": ProblemType(408, "The request took too long to arrive"),
    "name_taken": ProblemType(409, "The name is taken"),
    "already_rotated": ProblemType(409, "The token has been rotated already"),
    "too_many_tokens": ProblemType(409, "The account has too many tokens"),
    "body_too_large": ProblemType(413, "The body is too large"),
    "uri_too_long": ProblemType(414, "The request target is too long"),
    "unsupported_media_type": ProblemType(415, "The body must be JSON"),
    "invalid_fields": ProblemType(
        422, "Some fields are not right", "Nothing was changed; `errors` says what to correct."
    ),
    "too_many_failures": ProblemType(429, "Too many failures", retry_after_seconds=60),
    "headers_too_large": ProblemType(431, "The header fields are too large"),
    "internal_error": ProblemType(
        500,
        "The sidecar failed",
        "The sidecar could not handle this request; its log names the request id.",
    ),
    "upstream_unreachable": ProblemType(
        502, "The upstream can't be reached", "The service behind the proxy can't be reached."
    ),
    "upstream_broken": ProblemType(
        502,
        "The upstream's answer is broken",
        "The service behind the proxy gave no usable answer.",
    ),
    "service_unavailable": ProblemType(
        503,
        "Not available right now",
        "The supervisor of the workers does not answer; try again.",
    ),
    "store_unavailable": ProblemType(
        503,
        "The token store can't be asked",
        "Tokens can't be looked up or checked right now; try again shortly.",
        retry_after_seconds=1,
    ),
    "overloaded": ProblemType(
        503,
        "Too busy",
        "The sidecar is too busy right now; try again shortly.",
        retry_after_seconds=1,
    ),
    "draining": ProblemType(
        503,
        "Shutting down",
        "The sidecar is shutting down; try again shortly.",
        retry_after_seconds=1,
    ),
    "upstream_timeout": ProblemType(
        504,
        "The upstream took too long",
        "The service behind the proxy did not answer in time.",
    ),
}

_NEVER_FROM_PROXY: Final = frozenset(
    (
        *("cross_site", "not_found", "unknown_token", "name_taken", "already_rotated"),
        *("too_many_tokens", "unsupported_media_type", "invalid_fields", "service_unavailable"),
    )
)
PROXY_CODES: Final = tuple(code for code in PROBLEM_TYPES if code not in _NEVER_FROM_PROXY)
"""What the proxy and the decision endpoint answer with; metrics count a denial by one of these."""

_DENIALS: Final = {code: Denial(code, row.detail) for code, row in PROBLEM_TYPES.items()}


def denial_for(code: str) -> Denial:
    """Return the denial with the table's own text, such as a caller gets for a ``Fault``.

    A fault's message is for the log; it never reaches a caller.
    """
    return _DENIALS[code]


def status_of(denial: Denial) -> int:
    """Return the status that a denial is answered with."""
    return denial.status or PROBLEM_TYPES[denial.code].status


def title_of(denial: Denial) -> str:
    """Return the title that a denial is answered with: its code's, unless HTTP refines that."""
    row, status = PROBLEM_TYPES[denial.code], status_of(denial)
    return row.title if status == row.status else HTTPStatus(status).phrase


def problem_document(denial: Denial, request_id: str) -> bytes:
    """Return the problem document of a denial (RFC 9457).

    ``request_id`` is one that ``core.headers.is_sane_request_id`` accepts: it is not escaped.
    """
    return begin_document(denial) + request_id.encode() + DOCUMENT_END


DOCUMENT_END: Final = b'"}\n'


@lru_cache(maxsize=1024)
def begin_document(denial: Denial) -> bytes:
    """Return the document up to the request id, which is the same for all who get this denial."""
    members = {
        "title": title_of(denial),
        "status": status_of(denial),
        "code": denial.code,
        "detail": denial.detail,
    }
    return json.dumps(members, ensure_ascii=False)[:-1].encode() + b', "request_id": "'
