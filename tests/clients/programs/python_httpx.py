"""httpx."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from tests.clients.program import CannotError, Request, response, run


def play(requests: list[Request], authority: str) -> list[dict[str, Any]]:
    context = ssl.create_default_context(cafile=authority)
    with httpx.Client(verify=context, trust_env=False, timeout=60) as client:
        return [ask(client, request) for request in requests]


def ask(client: httpx.Client, request: Request) -> dict[str, Any]:
    if request.expect:
        raise CannotError("does not wait for 100 (Continue)")
    body: Any = request.body
    if request.chunked and body is not None:
        body = iter([body[start : start + 65536] for start in range(0, len(body), 65536)])
    login = (request.user, request.password) if request.has_login else None
    options: dict[str, Any] = {
        "headers": [*request.headers, *([("Content-Type", "text/plain")] if body else [])],
        "content": body,
        "follow_redirects": request.follow,
    }
    auth = None if request.challenge else login
    answer = client.request(request.method, request.url, auth=auth, **options)
    if request.challenge and answer.status_code == 401:
        answer = client.request(request.method, request.url, auth=login, **options)
    return response(answer.status_code, answer.headers.multi_items(), answer.content)


run(play)
