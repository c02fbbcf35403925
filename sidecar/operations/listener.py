"""The operations listener: its paths and what each answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from sidecar.observability.metric_families import Snapshot
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.jwks import KeySet, add_key_set
from sidecar.wire.web_runner import BoundedRunner, hide_server
from sidecar.workers.overview import Overview

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Description = Callable[[], Mapping[str, object]]
Collect = Callable[[], Awaitable[Snapshot]]
Everyone = Callable[[], Awaitable[Overview]]

_HEALTH = web.AppKey("health", Health)
_CONFIGURATION: web.AppKey[Description | None] = web.AppKey("configuration")
_EVERYONE: web.AppKey[Everyone | None] = web.AppKey("everyone")
_COLLECT: web.AppKey[Collect] = web.AppKey("collect")
_WRITE: web.AppKey[Callable[[Snapshot, str], tuple[bytes, str]]] = web.AppKey("write")
_NO_STORE = {"Cache-Control": "no-store"}
_LINE_BYTES = 64 * 1024
_HEADERS = 512
_DETAIL = (
    "The operations listener has /healthz, /readyz, /metrics and /.well-known/jwks.json, "
    "for GET and HEAD, and /auth."
)
_SILENT = "The supervisor of the workers does not answer; try again."


def operations_runner(app: web.Application) -> web.AppRunner:
    """Return what serves the application: a decision's headers may be as large as a request's."""
    return BoundedRunner(
        app,
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
    everyone: Everyone | None = None,
) -> web.Application:
    """Return the application: ``/healthz``, ``/readyz``; errors are problem+json (RFC 9457).

    ``configuration`` says how the configuration in force relates to its file, for ``/readyz``.
    ``key_set`` gives what ``/.well-known/jwks.json`` publishes, ``collect`` what ``/metrics`` does,
    ``decisions`` answers ``/auth``; without them there is no such path. With ``everyone``, which
    tells how all workers are, ``/readyz`` and ``/metrics`` speak for all.
    """
    app = web.Application(middlewares=[_errors_as_problems])
    app.on_response_prepare.append(hide_server)
    app[_HEALTH] = health
    app[_CONFIGURATION] = configuration
    app[_EVERYONE] = everyone
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
    body = await _describe(request.app)
    status = HTTPStatus.OK if body["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
    return web.json_response(body, status=status, headers=_NO_STORE)


async def _describe(app: web.Application) -> dict[str, object]:
    everyone = app[_EVERYONE]
    if everyone is not None:
        overview = await everyone()
        reasons, configuration = overview.reasons, overview.configuration
        body: dict[str, object] = {"ready": not reasons, "reasons": list(reasons)}
        body["workers"] = {"ready": overview.ready, "of": overview.wanted}
    else:
        reasons = await app[_HEALTH].reasons()
        body = {"ready": not reasons, "reasons": reasons}
        describe = app[_CONFIGURATION]
        configuration = None if describe is None else describe()
    if configuration is not None:
        body["configuration"] = configuration
    return body


async def _expose(request: web.Request) -> web.Response:
    """Answer in the format that ``Accept`` asks for; ask the store whether it is up, as a probe."""
    snapshot = await _collect(request.app)
    accept = request.headers.get("Accept", "")
    body, content_type = request.app[_WRITE](snapshot, accept)
    return web.Response(body=body, headers={**_NO_STORE, "Content-Type": content_type})


async def _collect(app: web.Application) -> Snapshot:
    everyone = app[_EVERYONE]
    if everyone is None:
        snapshot = await app[_COLLECT]()
        is_up = await app[_HEALTH].store_ready()
        return {**snapshot, "sidecar_store_up": {(): float(is_up)}}
    overview = await everyone()
    if not overview.snapshot:  # a page without counts would be taken for a restart
        raise web.HTTPServiceUnavailable
    return overview.snapshot


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
        "detail": _DETAIL if status < HTTPStatus.INTERNAL_SERVER_ERROR else _SILENT,
    }
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return web.json_response(
        body,
        status=error.status,
        headers={**_NO_STORE, **allow},
        content_type="application/problem+json",
    )
