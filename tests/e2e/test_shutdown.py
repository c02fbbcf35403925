"""SIGTERM: nothing new is taken, what runs is finished, the exit status is 0."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, Tokens, ask, plain_settings
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Act, Recorder, answer


@pytest.fixture
def stopped(redis: RedisServer, recorder: Recorder, tmp_path: Path) -> Iterator[ProxyProcess]:
    """Return a proxy that the test stops, with two seconds to finish."""
    settings = plain_settings(redis, recorder.url) | {"drain": {"timeout": "2s"}}
    with ProxyProcess(tmp_path, settings) as proxy:
        yield proxy


@pytest.fixture
def line(tokens: Tokens) -> bytes:
    return b"access_token: " + tokens.valid.encode()


def test_a_request_under_way_is_answered_and_idle_connections_are_closed(
    stopped: ProxyProcess, line: bytes, recorder: Recorder
) -> None:
    idle, busy = RawClient(stopped.connect()), RawClient(stopped.connect())
    assert ask(idle, line).status == 200
    recorder.play((1.0, answer(body=b"done")))
    mark = recorder.mark()
    busy.send(b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (LISTENER, line))
    while not recorder.requests_since(mark):
        pass
    stopped.signal(signal.SIGTERM)
    assert idle.is_closed()
    with pytest.raises(OSError, match="refused"):
        stopped.connect()
    answered = busy.read_answer()
    assert answered is not None
    assert answered.body == b"done"
    assert answered.values("connection") == ["close"]
    assert busy.is_closed()
    assert stopped.wait() == 0
    idle.close()
    busy.close()


def test_what_does_not_end_in_time_is_cut_off(
    stopped: ProxyProcess, line: bytes, recorder: Recorder
) -> None:
    recorder.play((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Act.HOLD))
    client = RawClient(stopped.connect())
    client.send(b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (LISTENER, line))
    assert client.read_until(b"abc")
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == 0
    assert client.is_closed()
    client.close()


def test_the_access_log_is_whole_when_the_process_has_ended(
    stopped: ProxyProcess, line: bytes
) -> None:
    client = RawClient(stopped.connect())
    for _ in range(20):
        assert ask(client, line).status == 200
    client.close()
    stopped.stop()
    lines = [each for each in stopped.access_lines() if each["path"] == LISTENER.decode()]
    assert len(lines) == 20
    assert {each["account"] for each in lines} == {"acme"}


def test_sigint_stops_it_as_well(stopped: ProxyProcess) -> None:
    stopped.signal(signal.SIGINT)
    assert stopped.wait() == 0
    assert "Traceback" not in stopped.stderr
