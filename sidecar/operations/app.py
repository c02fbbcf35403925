"""The operations listener: its paths and what each answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from sidecar.metric_families import Snapshot
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.jwks import KeySet, add_key_set

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Description = Callable[[], Mapping[str, object]]
Collect = Callable[[], Awaitable[Snapshot]]

_HEALTH = web.AppKey("health", Health)
_CONFIGURATION: web.AppKey[Description | None] = web.AppKey("configuration")
_COLLECT: web.AppKey[Collect] = web.AppKey("collect")
_WRITE: web.AppKey[Callable[[Snapshot, str], tuple[bytes, str]]] = web.AppKey("write")
_NO_STORE = {"Cache-Control": "no-store"}
_LINE_BYTES = 64 * 1024
_HEADERS = 512
_DETAIL = (
    "The operations listener has /healthz, /readyz, /metrics and /.well-known/jwks.json, "
    "for GET and HEAD, and /auth."
)


def operations_runner(app: web.Application) -> web.AppRunner:
    """Return what serves the application: a decision's headers may be as large as a request's."""
    return web.AppRunner(
        app,
        access_log=None,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        max_headers=_HEADERS,
    )


def operations_app(
    health: Health,
    configuration: Description | None = None,
    key_set: KeySet | None = None,
    collect: Collect | None = None,
    decisions: Decisions | None = None,
) -> web.Application:
    """Return the application: ``/healthz``, ``/readyz``; errors are problem+json (RFC 9457).

    ``configuration`` says how the configuration in force relates to its file, for ``/readyz``.
    ``key_set`` gives what ``/.well-known/jwks.json`` publishes, ``collect`` what ``/metrics`` does,
    ``decisions`` answers ``/auth``; without them there is no such path.
    """
    app = web.Application(middlewares=[_errors_as_problems])
    app[_HEALTH] = health
    app[_CONFIGURATION] = configuration
    app.router.add_get("/healthz", _say_alive)
    app.router.add_get("/readyz", _say_ready)
    if key_set is not None:
        add_key_set(app, key_set)
    if collect is not None:
        # prometheus_client takes a tenth of a second to load: only where it is used.
        from sidecar.operations.exposition import write_exposition

        app[_COLLECT], app[_WRITE] = collect, write_exposition
        app.router.add_get("/metrics", _expose)
    if decisions is not None:
        decisions.add_to(app)
    return app


async def _say_alive(request: web.Request) -> web.Response:
    """Answer 200 for as long as the event loop turns, whatever state the store is in."""
    return web.json_response({"alive": True}, headers=_NO_STORE)


async def _say_ready(request: web.Request) -> web.Response:
    """Answer 200 or 503. A faulty file is told but takes no part: what is in force serves."""
    reasons = await request.app[_HEALTH].reasons()
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    body: dict[str, object] = {"ready": not reasons, "reasons": reasons}
    configuration = request.app[_CONFIGURATION]
    if configuration is not None:
        body["configuration"] = configuration()
    return web.json_response(body, status=status, headers=_NO_STORE)


async def _expose(request: web.Request) -> web.Response:
    """Answer in the format that ``Accept`` asks for; ask the store whether it is up, as a probe."""
    snapshot = await request.app[_COLLECT]()
    is_up = await request.app[_HEALTH].store_ready()
    snapshot["sidecar_store_up"] = {(): float(is_up)}
    accept = request.headers.get("Accept", "")
    body, content_type = request.app[_WRITE](snapshot, accept)
    return web.Response(body=body, headers={**_NO_STORE, "Content-Type": content_type})


@web.middleware
async def _errors_as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _problem(error)


def _problem(error: web.HTTPException) -> web.Response:
    status = HTTPStatus(error.status)
    body = {
        "title": status.phrase,
        "status": error.status,
        "code": status.name.lower(),
        "detail": _DETAIL,
    }
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return web.json_response(
        body,
        status=error.status,
        headers={**_NO_STORE, **allow},
        content_type="application/problem+json",
    )
