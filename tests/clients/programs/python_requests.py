"""requests."""

from __future__ import annotations

from typing import Any

import requests as library

from tests.clients.program import CannotError, Request, response, run


def play(requests: list[Request], authority: str) -> list[dict[str, Any]]:
    with library.Session() as session:
        session.verify = authority
        session.trust_env = False
        return [ask(session, request) for request in requests]


def ask(session: library.Session, request: Request) -> dict[str, Any]:
    if request.expect:
        raise CannotError("does not wait for 100 (Continue)")
    body: Any = request.body
    if request.chunked and body is not None:
        body = iter([body[start : start + 65536] for start in range(0, len(body), 65536)])
    login = (request.user, request.password) if request.has_login else None
    options: dict[str, Any] = {
        "headers": {**dict(request.headers), **({"Content-Type": "text/plain"} if body else {})},
        "data": body,
        "allow_redirects": request.follow,
        "timeout": 60,
    }
    auth = None if request.challenge else login
    answer = session.request(request.method, request.url, auth=auth, **options)
    if request.challenge and answer.status_code == 401:
        answer = session.request(request.method, request.url, auth=login, **options)
    fields = answer.raw.headers.items()
    return response(answer.status_code, fields, answer.content)


run(play)
