"""The API's error responses: which problems it has, and how one is sent (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from sidecar.core.model import Denial
from sidecar.core.problems import MEDIA_TYPE, PROBLEM_TYPES, status_of, title_of
from sidecar.portal.token_models import FieldError

API_CODES: Final = (
    "bad_request",
    "ambiguous_credentials",
    "missing_credentials",
    "malformed_credentials",
    "invalid_password",
    "account_disabled",
    "cross_site",
    "unknown_token",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "name_taken",
    "already_rotated",
    "too_many_tokens",
    "body_too_large",
    "unsupported_media_type",
    "invalid_fields",
    "too_many_failures",
    "internal_error",
    "store_unavailable",
    "overloaded",
)
"""The codes that the API answers with; a test compares them with ``docs/reference/portal.md``."""

CHALLENGE: Final = 'Basic realm="API keys", charset="UTF-8"'
REQUEST_ID: Final = web.RequestKey("request_id", str)
"""The request's id, as the log and ``X-Request-Id`` have it."""


class WrongField(BaseModel):
    """A field that breaks its rule."""

    pointer: str = Field(description="A JSON pointer into the body (RFC 6901), as a fragment.")
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457). `code` is stable; `title` and `detail` are for people."""

    model_config = ConfigDict(extra="forbid")

    title: str
    status: int
    code: Annotated[str, Field(json_schema_extra={"enum": sorted(API_CODES)})]
    detail: str
    request_id: str
    errors: list[WrongField] | None = None


def problem_response(
    request: web.Request, denial: Denial, errors: Iterable[FieldError] = ()
) -> web.Response:
    """Return the response to a request that is refused or has failed."""
    status = status_of(denial)
    problem = Problem(
        title=title_of(denial),
        status=status,
        code=denial.code,
        detail=denial.detail,
        request_id=request[REQUEST_ID],
        errors=[WrongField(pointer=f"#/{at}", detail=text) for at, text in errors] or None,
    )
    return web.Response(
        status=status,
        body=problem.model_dump_json(exclude_none=True).encode() + b"\n",
        content_type=MEDIA_TYPE,
        headers=problem_headers(denial),
    )


def problem_headers(denial: Denial) -> dict[str, str]:
    """Return a denial's ``Retry-After``, ``Allow`` and ``WWW-Authenticate``, those that apply."""
    row = PROBLEM_TYPES[denial.code]
    headers = {}
    retry_after_seconds = denial.retry_after_seconds or row.retry_after_seconds
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(retry_after_seconds)
    if denial.allow:
        headers["Allow"] = ", ".join(denial.allow)
    if row.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    return headers
