"""What a client's program is told and tells: one JSON document in, one JSON line a case out.

Each program under ``programs/`` plays every case that it is given, each with a client of its own
(a session, an agent, a pool) whose connections its requests share. ``run`` is the loop of those in
Python; the others hold to the same protocol.

A request: ``method``, ``url``, ``headers`` (pairs), ``user`` and ``password`` (both empty: none),
``challenge`` (the credentials are given to the client, which waits for the challenge), ``size`` (of
the body, by the pattern of ``service``; -1: no body), ``chunked``, ``expect`` (100-continue),
``follow`` (redirects), ``gzip`` (the client asks for it and unpacks).

A line: ``name``, ``responses`` with ``status``, ``headers`` (pairs, names in lower case), ``text``
(if it is short), ``size`` and ``sha256`` of the body; ``error``: what the client said when it gave
up; ``cannot``: why the client has no way to do it. A program whose client does not answer a
challenge, or does not follow a redirect, by itself does so as its users must, by hand.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

SHORT_BYTES: Final = 65536
PATTERN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"


class CannotError(Exception):
    """The client has no way to do what it is asked."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a case."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    user: str
    password: str
    challenge: bool
    size: int
    chunked: bool
    expect: bool
    follow: bool
    gzip: bool

    @property
    def body(self) -> bytes | None:
        if self.size < 0:
            return None
        return (PATTERN * (self.size // len(PATTERN) + 1))[: self.size]

    @property
    def has_login(self) -> bool:
        return bool(self.user or self.password)


def response(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """Tell of one response."""
    return {
        "status": status,
        "headers": [(name.lower(), value) for name, value in headers],
        "text": body.decode("utf-8", "replace") if len(body) <= SHORT_BYTES else "",
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


Play = Callable[[list[Request], str], list[dict[str, Any]]]


def run(play: Play) -> None:
    """Play the cases of standard input; ``play`` takes requests and the authority's file."""
    told = json.load(sys.stdin)
    for case in told["cases"]:
        line: dict[str, Any] = {"name": case["name"], "responses": [], "error": "", "cannot": ""}
        try:
            line["responses"] = play([Request(**one) for one in case["requests"]], told["ca"])
        except CannotError as reason:
            line["cannot"] = str(reason)
        except Exception as error:
            line["error"] = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
