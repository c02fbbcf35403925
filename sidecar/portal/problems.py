"""The API's errors: the one table of codes and statuses, and how one is answered (RFC 9457).

``docs/reference/portal.md`` shows the same table, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from sidecar.core.model import Denial
from sidecar.portal.token_fields import FieldError
from sidecar.proxy.answers import ANSWERS, Answer

_SHARED_WITH_PROXY: Final = (
    "bad_request",
    "ambiguous_credentials",
    "missing_credentials",
    "malformed_credentials",
    "invalid_password",
    "account_disabled",
    "method_not_allowed",
    "request_timeout",
    "body_too_large",
    "too_many_failures",
    "store_unavailable",
    "overloaded",
)

PROBLEMS: Final[dict[str, Answer]] = {
    **{code: ANSWERS[code] for code in _SHARED_WITH_PROXY},
    "cross_site": Answer(403, "Sent by a page of another site"),
    "unknown_token": Answer(404, "No such token"),
    "not_found": Answer(404, "Nothing is here"),
    "name_taken": Answer(409, "The name is taken"),
    "already_rotated": Answer(409, "The token has been rotated already"),
    "too_many_tokens": Answer(409, "The account has too many tokens"),
    "unsupported_media_type": Answer(415, "The body must be JSON"),
    "invalid_fields": Answer(422, "Some fields are not right"),
    "internal_error": Answer(500, "The portal failed"),
}

CHALLENGE: Final = 'Basic realm="API keys", charset="UTF-8"'
REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Under which the log knows a request."""
MEDIA_TYPE: Final = "application/problem+json"


class WrongField(BaseModel):
    """One field that is not right."""

    pointer: str = Field(description="A JSON pointer into the body (RFC 6901), as a fragment.")
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457). `code` is stable; `title` and `detail` are for people."""

    model_config = ConfigDict(extra="forbid")

    title: str
    status: int
    code: Annotated[str, Field(json_schema_extra={"enum": sorted(PROBLEMS)})]
    detail: str
    request_id: str
    errors: list[WrongField] | None = None


def answer(request: web.Request, denial: Denial, errors: Iterable[FieldError] = ()) -> web.Response:
    """Return the response to what is refused or could not be done."""
    row = PROBLEMS[denial.code]
    problem = Problem(
        title=row.title,
        status=row.status,
        code=denial.code,
        detail=denial.detail,
        request_id=request[REQUEST_ID],
        errors=[WrongField(pointer=f"#/{at}", detail=text) for at, text in errors] or None,
    )
    return web.Response(
        status=row.status,
        body=problem.model_dump_json(exclude_none=True).encode() + b"\n",
        content_type=MEDIA_TYPE,
        headers=headers_of(denial),
    )


def headers_of(denial: Denial) -> dict[str, str]:
    """Return the fields that go with a denial: when to try again, what is allowed, who may come."""
    row = PROBLEMS[denial.code]
    headers = {}
    retry_after_seconds = denial.retry_after_seconds or row.retry_after_seconds
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(retry_after_seconds)
    if denial.allow:
        headers["Allow"] = ", ".join(denial.allow)
    if row.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    return headers
