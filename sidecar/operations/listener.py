"""The operations listener: its paths, and what each of them answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from sidecar.core.problems import MEDIA_TYPE, PROBLEM_TYPES
from sidecar.observability.metric_families import Snapshot
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.jwks import KeySet, add_key_set
from sidecar.operations.questions import QuestionConnection
from sidecar.wire.web_runner import MOST_CONNECTIONS, BoundedRunner, hide_server
from sidecar.workers.overview import Overview

DescribeConfiguration = Callable[[], Mapping[str, object]]
CollectMetrics = Callable[[], Awaitable[Snapshot]]
AskAllWorkers = Callable[[], Awaitable[Overview]]

_HEALTH = web.AppKey("health", Health)
_DESCRIBE: web.AppKey[DescribeConfiguration | None] = web.AppKey("describe_configuration")
_ASK_ALL: web.AppKey[AskAllWorkers | None] = web.AppKey("ask_all")
_COLLECT: web.AppKey[CollectMetrics] = web.AppKey("collect")
_WRITE: web.AppKey[Callable[[Snapshot, str], tuple[bytes, str]]] = web.AppKey("write")
_NO_STORE = {"Cache-Control": "no-store"}
_LINE_BYTES = 64 * 1024
_HEADERS = 512
_DETAIL = (
    "The operations listener has /healthz, /readyz, /metrics and /.well-known/jwks.json, "
    "for GET and HEAD, and /auth."
)


def operations_runner(
    app: web.Application, most_connections: int = MOST_CONNECTIONS
) -> web.AppRunner:
    """Return the runner of the application; it takes headers as large as the proxy does."""
    return BoundedRunner(
        app,
        QuestionConnection,
        most_connections=most_connections,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        max_headers=_HEADERS,
    )


def operations_app(
    health: Health,
    describe_configuration: DescribeConfiguration | None = None,
    key_set: KeySet | None = None,
    collect: CollectMetrics | None = None,
    decisions: Decisions | None = None,
    ask_all: AskAllWorkers | None = None,
) -> web.Application:
    """Return the application. Errors are ``application/problem+json`` (RFC 9457).

    It always has ``/healthz`` and ``/readyz``; ``/.well-known/jwks.json`` needs ``key_set``,
    ``/metrics`` needs ``collect``, ``/auth`` needs ``decisions``. ``/readyz`` includes what
    ``describe_configuration`` returns. With ``ask_all``, which returns the status of all workers,
    ``/readyz`` and ``/metrics`` speak for all of them, otherwise for this process.
    """
    app = web.Application(middlewares=[_errors_as_problems])
    app.on_response_prepare.append(hide_server)
    app[_HEALTH] = health
    app[_DESCRIBE] = describe_configuration
    app[_ASK_ALL] = ask_all
    app.router.add_get("/healthz", _say_alive)
    app.router.add_get("/readyz", _say_ready)
    if key_set is not None:
        add_key_set(app, key_set)
    if collect is not None:
        # Imported only where it is used: prometheus_client takes a tenth of a second to load.
        from sidecar.operations.exposition import write_exposition

        app[_COLLECT], app[_WRITE] = collect, write_exposition
        app.router.add_get("/metrics", _expose)
    if decisions is not None:
        decisions.add_to(app)
    return app


async def _say_alive(request: web.Request) -> web.Response:
    """Answer 200 while the event loop runs, whatever the state of the store."""
    return web.json_response({"alive": True}, headers=_NO_STORE)


async def _say_ready(request: web.Request) -> web.Response:
    """Answer 200 or 503. An invalid file is reported, but the process stays ready without it."""
    body = await _describe(request.app)
    status = HTTPStatus.OK if body["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
    return web.json_response(body, status=status, headers=_NO_STORE)


async def _describe(app: web.Application) -> dict[str, object]:
    ask_all = app[_ASK_ALL]
    if ask_all is not None:
        overview = await ask_all()
        reasons, configuration = overview.reasons, overview.configuration
        body: dict[str, object] = {"ready": not reasons, "reasons": list(reasons)}
        body["workers"] = {"ready": overview.ready, "of": overview.wanted}
    else:
        reasons = await app[_HEALTH].reasons()
        body = {"ready": not reasons, "reasons": reasons}
        describe = app[_DESCRIBE]
        configuration = None if describe is None else describe()
    if configuration is not None:
        body["configuration"] = configuration
    return body


async def _expose(request: web.Request) -> web.Response:
    """Answer in the format that ``Accept`` asks for."""
    snapshot = await _collect(request.app)
    accept = request.headers.get("Accept", "")
    body, content_type = request.app[_WRITE](snapshot, accept)
    return web.Response(body=body, headers={**_NO_STORE, "Content-Type": content_type})


async def _collect(app: web.Application) -> Snapshot:
    ask_all = app[_ASK_ALL]
    if ask_all is None:
        snapshot = await app[_COLLECT]()
        is_up = await app[_HEALTH].store_ready()
        return {**snapshot, "sidecar_store_up": {(): float(is_up)}}
    overview = await ask_all()
    if not overview.snapshot:  # counters without values would look like a restart
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
    code = HTTPStatus(error.status).name.lower()
    row = PROBLEM_TYPES[code if code in PROBLEM_TYPES else "bad_request"]
    is_refusal = error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    body = {
        "title": row.title,
        "status": error.status,
        "code": code,
        "detail": _DETAIL if is_refusal else row.detail,
    }
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return web.json_response(
        body,
        status=error.status,
        headers={**_NO_STORE, **allow},
        content_type=MEDIA_TYPE,
    )
