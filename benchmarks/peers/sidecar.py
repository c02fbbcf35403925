"""The sidecar as an administrator runs it: one worker, a log file, metrics, else the defaults.

Three defaults are changed for the load: failures are not throttled (all requests come from one
address), connections may idle for minutes, and more of them are allowed.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.peers import Place, Running
from benchmarks.processes import BenchError, Program, UnavailableError, free_port, is_listening
from benchmarks.tokens import Holder
from benchmarks.upstream import BASE

BUSY_SECONDS = 10.0


def start(place: Place) -> Running:
    """Start the sidecar compiled, as in the image; interpreted without a C compiler."""
    return _start(place, place.tree.root)


def start_interpreted(place: Place) -> Running:
    """Start the sidecar interpreted. Raises ``UnavailableError`` if ``start`` does that."""
    if place.tree.compiled is None:
        raise UnavailableError("nothing was compiled, so the sidecar is this already")
    if place.tree.interpreted is None:
        raise UnavailableError("this tree is there compiled alone")
    return _start(place, place.tree.interpreted)


def _start(place: Place, root: Path) -> Running:
    """Start ``python -m sidecar run`` with the code at ``root`` and a configuration made for the
    place.
    """
    place.directory.mkdir(parents=True, exist_ok=True)
    port, portal_port = free_port(), free_port()
    path = place.directory / "sidecar.yaml"
    configuration = _configuration(place, port, root)
    if place.has_portal:
        configuration["portal"] = {"address": f"127.0.0.1:{portal_port}"}
    path.write_text(json.dumps(configuration, indent=1))  # JSON is YAML
    program = Program(
        [sys.executable, "-P", "-m", "sidecar", "run", "--config", str(path)],
        cores=place.cores,
        environment=_environment(root),
        output=place.directory / "sidecar.log",
    )
    program.wait_until(lambda: is_listening(port))
    return Running(
        port,
        (program,),
        root,
        configuration=path,
        portal_port=portal_port,
        certificate=place.certificate,
    )


def create_jwt(running: Running, account: str) -> str:
    """Create a JWT by the command. Raises ``UnavailableError`` if this sidecar can't."""
    command = ["token", "create", "--account", account, "--name", "bench jwt", "--days", "1"]
    assert running.root is not None
    command += ["--kind", "jwt", "--config", str(running.configuration)]
    made = _call(running.root, command)
    if made.returncode != 0:
        raise UnavailableError(f"no JWT was made: {made.stderr.strip().splitlines()[-1:]}")
    return made.stdout.strip()


def revoke_by_api(running: Running, holder: Holder, token_id: str) -> None:
    """Revoke a token over HTTP, as the holder of its account does. Needs ``Place.has_portal``.

    A 503 means that Redis was too busy to answer in time: the call is repeated.
    """
    end = time.monotonic() + BUSY_SECONDS
    while (status := _ask_to_revoke(running, holder, token_id)) == 503 and time.monotonic() < end:
        time.sleep(0.05)
    if status != 204:
        raise BenchError(f"the token API answered {status}")


def _ask_to_revoke(running: Running, holder: Holder, token_id: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", running.portal_port, timeout=10)
    try:
        name, _, value = holder.basic.partition(": ")
        connection.request("DELETE", f"/api/tokens/{token_id}", headers={name: value})
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise BenchError(f"the token API: no answer that is HTTP: {error!r}") from error
    finally:
        connection.close()


def _configuration(place: Place, port: int, root: Path) -> dict[str, Any]:
    store: dict[str, Any] = {"url": f"redis://127.0.0.1:{place.redis_port}/{place.database}"}
    if place.cache_tokens is not None:
        store["cache"] = {"tokens": place.cache_tokens}
    configuration: dict[str, Any] = {
        "listen": {"address": f"127.0.0.1:{port}"},
        "upstreams": {"listener": {"url": f"http://127.0.0.1:{place.upstream_port}"}},
        "routes": [{"path": f"{base}/{{id}}"} for base in (*place.neighbours.bases, BASE)],
        "accounts": {
            holder.account: {"password_hash": _hash(root, place.holder.password)}
            for holder in (place.holder, *place.neighbours.holders)
        },
        "store": store,
        "operations": {"address": f"127.0.0.1:{free_port()}"},
        "throttle": {"failures": 0},
        "limits": {"connections": 15_000, "idle_timeout": "10m"},
        "access_log": {"path": str(place.directory / "access.log")},
        "workers": place.workers,
    }
    if made := place.certificate:
        files = {"certificate": str(made.certificate), "private_key": str(made.private_key)}
        configuration["listen"]["tls"] = files
    if key := _signing_key(root):
        configuration["jwt"] = {"keys": [{"id": "bench", "private_key": key}]}
    return configuration


@cache
def _hash(root: Path, password: str) -> str:
    made = _call(root, ["account", "hash-password"], given=f"{password}\n")
    if made.returncode != 0:
        raise BenchError(f"sidecar account hash-password: {made.stderr.strip()[-300:]}")
    return made.stdout.strip()


@cache
def _signing_key(root: Path) -> str:
    made = _call(root, ["key", "generate"])
    return made.stdout if made.returncode == 0 else ""


def _call(root: Path, arguments: list[str], *, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sidecar", *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **_environment(root)},
    )


def _environment(root: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(root)}  # takes precedence over an installed sidecar
