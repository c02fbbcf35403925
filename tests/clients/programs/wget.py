"""wget, the command."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.clients.program import CannotError, Request, response, run


def options(requests: list[Request], folder: Path, authority: str) -> list[str]:
    """Return the options: one set for all requests of a case, as wget has it."""
    request = requests[0]
    if request.chunked:
        raise CannotError("sends no chunked bodies")
    chosen = ["--server-response", "--content-on-error", "--tries=1", "--no-config", "--no-hsts"]
    chosen += [f"--ca-certificate={authority}", f"--directory-prefix={folder}", "--no-directories"]
    chosen += ["--local-encoding=utf-8", "--no-verbose"]
    if request.method == "HEAD" and all(one.method == "HEAD" for one in requests):
        chosen.append("--spider")
    for name, value in request.headers:
        chosen.append(f"--header={name}: {value}")
    login = requests[-1]
    if login.has_login:
        chosen += [f"--user={login.user}", f"--password={login.password}"]
        if not login.challenge:
            chosen.append("--auth-no-challenge")
    if request.size >= 0:
        sent = folder / "sent"
        sent.write_bytes(request.body or b"")
        chosen += [f"--method={request.method}", f"--body-file={sent}"]
        chosen.append("--header=Content-Type: text/plain")
    if request.expect:
        chosen.append("--header=Expect: 100-continue")
    if not request.follow:
        chosen.append("--max-redirect=0")
    if request.gzip:
        chosen.append("--compression=gzip")
    return chosen


def responses_of(errors: str) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return every response of which ``--server-response`` told, in order."""
    found: list[tuple[int, list[tuple[str, str]]]] = []
    for line in errors.splitlines():
        if begin := re.match(r"  HTTP/1\.1 (\d+)", line):
            found.append((int(begin[1]), []))
        elif found and (field := re.match(r"  ([^:\s]+): (.*)", line)):
            found[-1][1].append((field[1], field[2]))
    return [one for one in found if one[0] >= 200]


def play(requests: list[Request], authority: str) -> list[dict[str, Any]]:
    # One command has one set of options.
    if any(replace(one, url="") != replace(requests[0], url="") for one in requests):
        return [told for one in requests for told in play([one], authority)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["wget", *options(requests, folder, authority)]
        output = folder / "received"
        command += ["--output-document", str(output), *(one.url for one in requests)]
        environment = {**os.environ, "HOME": name, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        told = responses_of(done.stderr)
        if not told or done.returncode in (4, 5):
            raise OSError(done.stderr.strip())
        body = output.read_bytes() if output.exists() else b""
        if len(requests) == 1:
            return [response(*told[-1], body)]
        return [response(*one, b"") for one in told]


run(play)
