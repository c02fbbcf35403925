"""Renders the page's templates, with every value escaped, and serves its static files."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from sidecar.core.model import Denial
from sidecar.core.problems import status_of
from sidecar.portal.problem_responses import REQUEST_ID, problem_headers
from sidecar.portal.request_origin import prefix_of
from sidecar.portal.sessions import PortalSession

_MEDIA_TYPES: Final = {
    "portal.css": "text/css",
    "copy.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_CONTENTS: Final = {
    name: files("sidecar.portal").joinpath("static", name).read_bytes() for name in _MEDIA_TYPES
}
_CACHE_FOREVER: Final = "public, max-age=31536000, immutable"
_HEADINGS: Final = {
    400: "This could not be read",
    403: "This page is out of date",
    404: "Nothing is here",
    405: "Nothing is here",
    408: "That took too long",
    413: "That request is too large",
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


def render_page(
    template: str,
    session: PortalSession | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    prefix: str = "",
    **values: Any,
) -> web.Response:
    """Return a page; one without a ``session`` has no forms and shows no account, and needs the
    ``prefix`` of its links.
    """
    text = _ENVIRONMENT.get_template(template).render(
        session=session,
        account=session.account if session else None,
        prefix=session.prefix if session else prefix,
        **values,
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def render_error(request: web.Request, denial: Denial) -> web.Response:
    """Return the error page for a denial, without the challenge, which is for the API alone."""
    status = status_of(denial)
    headers = problem_headers(denial)
    headers.pop("WWW-Authenticate", None)
    heading = _HEADINGS.get(status, HTTPStatus(status).phrase)
    return render_page(
        "error.html",
        None,
        status=status,
        headers=headers,
        prefix=prefix_of(request),
        heading=heading,
        detail=denial.detail,
        request_id=request[REQUEST_ID],
    )


async def serve_static(request: web.Request) -> web.Response:
    """Serve a static file; its address changes with its content, so it can be cached for ever."""
    name = request.match_info["name"]
    if name not in _CONTENTS or request.match_info["version"] != _version_of(name):
        raise web.HTTPNotFound
    return web.Response(
        body=_CONTENTS[name],
        content_type=_MEDIA_TYPES[name],
        charset="utf-8",
        headers={"Cache-Control": _CACHE_FOREVER},
    )
