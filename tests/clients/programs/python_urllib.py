"""urllib of Python's standard library."""

from __future__ import annotations

import base64
import gzip
import ssl
import urllib.error
import urllib.request
from typing import Any

from tests.clients.program import CannotError, Request, response, run


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Hands redirects to the caller."""

    def redirect_request(self, *_: Any) -> None:
        return None


def handlers(request: Request, authority: str) -> list[urllib.request.BaseHandler]:
    """Return what the opener is made of."""
    context = ssl.create_default_context(cafile=authority)
    chosen: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if not request.follow:
        chosen.append(NoRedirects())
    if request.challenge:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, request.url, request.user, request.password)
        chosen.append(urllib.request.HTTPBasicAuthHandler(passwords))
    return chosen


def play(requests: list[Request], authority: str) -> list[dict[str, Any]]:
    return [ask(request, authority) for request in requests]


def ask(request: Request, authority: str) -> dict[str, Any]:
    if request.expect:
        raise CannotError("does not wait for 100 (Continue)")
    body: Any = request.body
    headers = dict(request.headers)
    if request.chunked and body is not None:
        body = iter([body[start : start + 65536] for start in range(0, len(body), 65536)])
        headers["Transfer-Encoding"] = "chunked"
    if request.size >= 0:
        headers["Content-Type"] = "text/plain"
    if request.gzip:
        headers["Accept-Encoding"] = "gzip"
    if request.has_login and not request.challenge:
        login = base64.b64encode(f"{request.user}:{request.password}".encode()).decode()
        headers["Authorization"] = f"Basic {login}"
    opener = urllib.request.build_opener(*handlers(request, authority))
    asked = urllib.request.Request(request.url, body, headers, method=request.method)
    try:
        answer = opener.open(asked, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        received = answer.read()
        if answer.headers.get("Content-Encoding") == "gzip":
            received = gzip.decompress(received)
        return response(answer.status, answer.headers.items(), received)


run(play)
