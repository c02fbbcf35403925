"""A service whose name has two addresses, the first of which drops packets."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import ask, plain_settings
from tests.proxy_process import ROOT, ProxyProcess
from tests.redis_servers import RedisServer
from tests.silent_address import silent_address
from tests.upstream_recorder import Recorder

# What /etc/hosts would say, which is not this test's to change.
PROGRAM = """\
import socket
import sys

from sidecar.cli.main import main

ask = socket.getaddrinfo

def resolve(host, *args, **kwargs):
    if host not in (b"service.test", "service.test"):
        return ask(host, *args, **kwargs)
    return [*ask("127.0.0.2", *args, **kwargs), *ask("127.0.0.1", *args, **kwargs)]

socket.getaddrinfo = resolve
sys.exit(main())
"""


def test_a_dead_first_address_is_no_504(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    program = tmp_path / "sidecar_here.py"
    program.write_text(PROGRAM)
    settings = plain_settings(redis, f"http://service.test:{recorder.port}")
    with (
        silent_address("127.0.0.2", recorder.port),
        ProxyProcess(tmp_path, settings, {"PYTHONPATH": str(ROOT)}, program=program) as proxy,
    ):
        for _ in range(5):
            client = RawClient(proxy.connect())
            assert ask(client, target=b"/status").status == 200
            client.close()
