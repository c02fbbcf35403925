"""Reads a request's body: bounded in size and time, in the one media type that is expected."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

from sidecar.core.model import Denial
from sidecar.core.strict_json import read_object

MAX_BODY_BYTES: Final = 64 * 1024
_READ_TIMEOUT_SECONDS: Final = 10.0
_MOST_FIELDS: Final = 32

_TOO_SLOW: Final = Denial("request_timeout", "The body took too long to arrive.")
BODY_TOO_LARGE: Final = Denial("body_too_large", f"Send a body of at most {MAX_BODY_BYTES} bytes.")
_COMPRESSED: Final = Denial("unsupported_media_type", "Send the body as it is, not compressed.")
_BROKEN: Final = Denial("bad_request", "The body can't be read, or ended early.")
_NOT_JSON: Final = Denial("unsupported_media_type", "Send JSON, as application/json.")
_NOT_FORM: Final = Denial(
    "unsupported_media_type", "Send the form URL-encoded (application/x-www-form-urlencoded)."
)
_BAD_JSON: Final = Denial("bad_request", "Send one JSON object in UTF-8, with no member twice.")
_BAD_FORM: Final = Denial("bad_request", "The form can't be read.")


async def read_json(request: web.Request, *, may_be_empty: bool = False) -> dict[str, Any] | Denial:
    """Return the JSON object in the body, or the denial."""
    if may_be_empty and not request.can_read_body:
        return {}
    if request.content_type != "application/json":
        return _NOT_JSON
    body = await _read(request)
    if isinstance(body, Denial):
        return body
    try:
        return read_object(body)
    except ValueError:
        return _BAD_JSON


async def read_form(request: web.Request) -> dict[str, str] | Denial:
    """Return the fields of a URL-encoded form, or the denial; the last value of a repeated one."""
    if request.content_type != "application/x-www-form-urlencoded":
        return _NOT_FORM
    body = await _read(request)
    if isinstance(body, Denial):
        return body
    try:
        return dict(
            parse_qsl(
                body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
            )
        )
    except ValueError:
        return _BAD_FORM


async def _read(request: web.Request) -> bytes | Denial:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        return _COMPRESSED
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return BODY_TOO_LARGE
    try:
        async with asyncio.timeout(_READ_TIMEOUT_SECONDS):
            return await request.read()
    except TimeoutError:
        return _TOO_SLOW
    except web.HTTPRequestEntityTooLarge:
        return BODY_TOO_LARGE
    except (web.RequestPayloadError, ConnectionError):
        return _BROKEN
