"""curl, the command."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.program import Request, response, run


def options(request: Request, folder: Path, number: int, authority: str) -> list[str]:
    """Return what stands between two ``--next`` for one request."""
    chosen = ["--silent", "--show-error", "--cacert", authority, "--globoff", "--http1.1"]
    chosen += ["--output", str(folder / f"{number}.body"), "--dump-header"]
    chosen += [str(folder / f"{number}.head"), "--write-out", "%{http_code}\\n"]
    if request.method == "HEAD":
        chosen.append("--head")
    elif request.method != ("GET" if request.size < 0 else "POST"):
        chosen += ["--request", request.method]
    for name, value in request.headers:
        chosen += ["--header", f"{name}: {value}"]
    if request.has_login:
        chosen += ["--user", f"{request.user}:{request.password}"]
        chosen.append("--anyauth" if request.challenge else "--basic")
    if request.size >= 0:
        sent = folder / f"{number}.sent"
        sent.write_bytes(request.body or b"")
        chosen += ["--data-binary", f"@{sent}", "--header", "Content-Type: text/plain"]
        if request.chunked:
            chosen += ["--header", "Transfer-Encoding: chunked"]
        if request.expect:
            chosen += ["--header", "Expect: 100-continue"]
    if request.follow:
        chosen.append("--location")
    if request.gzip:
        chosen.append("--compressed")
    return [*chosen, request.url]


def last_head(text: str) -> list[tuple[str, str]]:
    """Return the fields of the last response of several: interim ones, challenges, redirects."""
    lines = text.rstrip("\r\n").split("\r\n\r\n")[-1].split("\r\n")[1:]
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def play(requests: list[Request], authority: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["curl"]
        for number, request in enumerate(requests):
            command += ["--next"] * (number > 0) + options(request, folder, number, authority)
        environment = {**os.environ, "HOME": name}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise OSError(done.stderr.strip() or f"exit status {done.returncode}")
        responses = []
        for number, status in enumerate(done.stdout.split()):
            body = folder / f"{number}.body"
            told = last_head((folder / f"{number}.head").read_bytes().decode("latin-1"))
            is_told = requests[number].method != "HEAD" and body.exists()
            responses.append(response(int(status), told, body.read_bytes() if is_told else b""))
        return responses


run(play)
