"""Bodies of any size pass in bounded memory, and a slow reader slows the sender down."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, Open, ask
from tests.proxy_process import ProxyProcess
from tests.upstream_recorder import Exchange, Recorder, UpstreamConnection, answer

MIB = 1 << 20
PIECE = bytes(range(256)) * 256
GROWTH_BYTES = 16 * MIB
SIZES = [64 * MIB, pytest.param(1024 * MIB, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]


def reset_peak(proxy: ProxyProcess) -> int:
    """Start measuring peak memory anew; return what the process holds now."""
    Path(f"/proc/{proxy.worker}/clear_refs").write_text("5")
    return proxy.rss_bytes()


def peak_bytes(proxy: ProxyProcess) -> int:
    status = Path(f"/proc/{proxy.worker}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) * 1024


def request(bearer: bytes, method: bytes, *lines: bytes) -> bytes:
    first = b"%s %s HTTP/1.1" % (method, LISTENER)
    return b"\r\n".join([first, b"Host: a", bearer, *lines, b"", b""])


def kernel_bytes() -> int:
    """Return what the sockets of two hops can hold at most, whatever a proxy does."""
    names = ("tcp_rmem", "tcp_wmem")
    return 2 * sum(int(Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2]) for name in names)


class Source:
    """An upstream that sends a big body and counts what it could send."""

    def __init__(self, size: int, is_chunked: bool) -> None:
        self.size = size
        self.sent = 0
        self._is_chunked = is_chunked

    def __call__(self, connection: UpstreamConnection, exchange: Exchange) -> None:
        framing = b"Transfer-Encoding: chunked" if self._is_chunked else self._length
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        before, after = (b"%x\r\n" % len(PIECE), b"\r\n") if self._is_chunked else (b"", b"")
        framed = before + PIECE + after
        with contextlib.suppress(OSError):
            while self.sent < self.size:
                connection.sock.sendall(framed)
                self.sent += len(PIECE)
            connection.sock.sendall(b"0\r\n\r\n" if self._is_chunked else b"")

    @property
    def _length(self) -> bytes:
        return b"Content-Length: %d" % self.size


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize("size", SIZES)
def test_a_big_download_passes_in_bounded_memory(
    size: int,
    is_chunked: bool,
    proxy: ProxyProcess,
    client: RawClient,
    recorder: Recorder,
    bearer: bytes,
) -> None:
    recorder.play((Source(size, is_chunked),))
    before = reset_peak(proxy)
    client.send(request(bearer, b"GET"))
    assert client.count_body() == size
    assert peak_bytes(proxy) - before < GROWTH_BYTES


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize("size", SIZES)
def test_a_big_upload_passes_in_bounded_memory(
    size: int,
    is_chunked: bool,
    proxy: ProxyProcess,
    client: RawClient,
    recorder: Recorder,
    bearer: bytes,
) -> None:
    mark = recorder.mark()
    before = reset_peak(proxy)
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % size
    client.send(request(bearer, b"POST", framing))
    framed = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if is_chunked else PIECE
    for _ in range(size // len(PIECE)):
        client.send(framed)
    client.send(b"0\r\n\r\n" if is_chunked else b"")
    answered = client.read_answer()
    assert answered is not None
    assert answered.body.endswith(b"body=%d" % size)
    assert bytes(recorder.requests_since(mark)[0].body[: len(PIECE)]) == PIECE
    assert peak_bytes(proxy) - before < GROWTH_BYTES


def until_still(count: object) -> int:
    """Wait until a counter has not moved for a while; return it."""
    assert callable(count)
    last, still_since = -1, time.monotonic()
    while time.monotonic() - still_since < 0.4:
        if (now := count()) != last:
            last, still_since = now, time.monotonic()
        time.sleep(0.02)
    return last


def test_a_slow_reader_stops_the_upstreams_sending(
    proxy: ProxyProcess, client: RawClient, recorder: Recorder, bearer: bytes
) -> None:
    limit = kernel_bytes() + 2 * MIB
    source = Source(2 * limit, is_chunked=True)
    recorder.play((source,))
    before = reset_peak(proxy)
    client.send(request(bearer, b"GET"))
    assert until_still(lambda: source.sent) < limit
    assert client.count_body() >= source.size
    assert peak_bytes(proxy) - before < GROWTH_BYTES


def test_after_a_slow_reader_the_upstream_connection_serves_the_next_request(
    proxy: ProxyProcess, open_client: Open, recorder: Recorder, bearer: bytes
) -> None:
    """Whatever the size at which the pause meets the end of the body, nothing is left paused."""
    patient = open_client()
    for size in range(MIB // 4, 6 * MIB, MIB // 4):
        recorder.play((answer(body=bytes(size)),))
        slow = open_client()
        slow.send(request(bearer, b"GET"))
        time.sleep(0.03)
        assert slow.count_body() == size
        assert ask(patient, bearer).status == 200, f"after {size} bytes"


def test_a_slow_upstream_stops_the_clients_sending(
    proxy: ProxyProcess, open_client: Open, recorder: Recorder, bearer: bytes
) -> None:
    def read_late(connection: UpstreamConnection, exchange: Exchange) -> None:
        is_late.append(True)
        while is_late:
            time.sleep(0.02)

    is_late: list[bool] = []
    recorder.play((read_late,))
    client, limit = open_client(), kernel_bytes() + 2 * MIB
    before = reset_peak(proxy)
    client.send(request(bearer, b"POST", b"Content-Length: %d" % (2 * limit)))
    client.sock.setblocking(False)
    sent = 0

    def push() -> int:
        nonlocal sent
        with contextlib.suppress(BlockingIOError):
            while sent < 2 * limit - len(PIECE):
                sent += client.sock.send(PIECE)
        return sent

    assert until_still(push) < limit
    assert peak_bytes(proxy) - before < GROWTH_BYTES
    is_late.clear()
