"""Templates and the files beside them: HTML with everything escaped, and no code within it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from sidecar.core.model import Denial
from sidecar.portal.problem_responses import REQUEST_ID, problem_headers
from sidecar.portal.sessions import Visit

_MEDIA_TYPES: Final = {
    "portal.css": "text/css",
    "copy.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_CONTENTS: Final = {
    name: files("sidecar.portal").joinpath("static", name).read_bytes() for name in _MEDIA_TYPES
}
_FOREVER: Final = "public, max-age=31536000, immutable"
_HEADINGS: Final = {
    400: "This could not be read",
    403: "This page is out of date",
    404: "Nothing is here",
    405: "Nothing is here",
    408: "That took too long",
    413: "That is too much",
    415: "This could not be read",
    500: "Something went wrong",
    503: "Not available right now",
}


def _version_of(name: str) -> str:
    return sha256(_CONTENTS[name]).hexdigest()[:12]


def _static(name: str) -> str:
    return f"/static/{_version_of(name)}/{name}"


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("sidecar.portal"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals["static"] = _static


def page(
    template: str,
    visit: Visit | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> web.Response:
    """Return a page; ``visit`` says who is signed in and what the forms carry."""
    text = _ENVIRONMENT.get_template(template).render(
        visit=visit, account=visit.account if visit else None, **values
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def failure(request: web.Request, denial: Denial, status: int) -> web.Response:
    """Return the page that says why there is none; without the challenge, which is the API's."""
    headers = problem_headers(denial)
    headers.pop("WWW-Authenticate", None)
    heading = _HEADINGS.get(status, HTTPStatus(status).phrase)
    return page(
        "error.html",
        None,
        status=status,
        headers=headers,
        heading=heading,
        detail=denial.detail,
        request_id=request[REQUEST_ID],
    )


async def serve_static(request: web.Request) -> web.Response:
    """Serve one of the few files, under a name that changes with its content."""
    name = request.match_info["name"]
    if name not in _CONTENTS or request.match_info["version"] != _version_of(name):
        raise web.HTTPNotFound
    return web.Response(
        body=_CONTENTS[name],
        content_type=_MEDIA_TYPES[name],
        charset="utf-8",
        headers={"Cache-Control": _FOREVER},
    )
