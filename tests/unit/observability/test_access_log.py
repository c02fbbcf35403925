"""The access log: one line of JSON for each request, and no request that waits for it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import UsageError
from sidecar.observability.access_log import AccessLog, LineFormatter, RequestLog
from sidecar.observability.line_writer import BACKLOG_BYTES, LineWriter

PATIENCE_SECONDS = 20.0


def make_entry(**values: Any) -> RequestLog:
    entry = RequestLog(started=10.0, client="192.0.2.1")
    for name, value in values.items():
        setattr(entry, name, value)
    return entry


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def written(path: Path, *entries: RequestLog) -> list[dict[str, Any]]:
    log = AccessLog(str(path), "sct_", asyncio.get_running_loop())
    for entry in entries:
        log.write(entry, 10.5)
    log.close()
    return lines_of(path)


def settle(is_settled: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_settled():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.005)


async def test_a_line_has_all_facts_of_a_request(tmp_path: Path) -> None:
    entry = make_entry(
        request_id="r1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        method="GET",
        path="/v1/x",
        route="/v1/{id}",
        status=200,
        account="acme",
        token_id="t1",
        form="bearer",
        bytes_in=3,
        bytes_out=4,
        upstream="h:1",
        upstream_seconds=0.25,
    )
    (line,) = await written(tmp_path / "log", entry)
    when = line.pop("time")
    assert line == {
        "request_id": "r1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/v1/x",
        "route": "/v1/{id}",
        "status": 200,
        "code": None,
        "detail": None,
        "account": "acme",
        "token_id": "t1",
        "form": "bearer",
        "bytes_in": 3,
        "bytes_out": 4,
        "duration_ms": 500.0,
        "upstream_ms": 250.0,
        "upstream": "h:1",
    }
    assert len(when) == len("2026-11-23T18:40:01.123Z")
    assert when.endswith("Z")


@pytest.mark.parametrize(
    "nasty",
    ['"', "\\", '\\"},{"status":200', "\r\n", "\x1b[31m", "\0", "é", "\u2028", "\udcff", "%0a"],
)
@pytest.mark.parametrize(
    "name", ["path", "account", "client", "method", "route", "token_id", "detail"]
)
async def test_a_line_stays_valid_json_whatever_its_fields_hold(
    tmp_path: Path, name: str, nasty: str
) -> None:
    (line,) = await written(tmp_path / "log", make_entry(**{name: nasty}))
    assert line[name] == nasty


@given(st.text(max_size=30))
def test_any_path_can_be_read_back_from_its_line(path: str) -> None:
    line = LineFormatter("sct_").line(make_entry(path=path), 10.0)
    assert line.count("\n") == 1
    assert json.loads(line)["path"] == (path or None)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/sct_" + "a" * 60, "/v1/sct_[masked]"),
        ("/sct_" + "a" * 60 + "/sct_" + "b" * 60 + "/x", "/sct_[masked]/sct_[masked]/x"),
        ("/sct_short", "/sct_short"),
    ],
)
async def test_what_looks_like_a_token_in_a_path_is_masked(
    tmp_path: Path, path: str, shown: str
) -> None:
    (line,) = await written(tmp_path / "log", make_entry(path=path))
    assert line["path"] == shown


async def test_lines_are_written_soon_without_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path), "sct_", asyncio.get_running_loop())
    log.write(make_entry(), 10.0)
    end = time.monotonic() + PATIENCE_SECONDS
    while not path.read_text():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    log.close()


async def test_a_file_is_appended_to_and_only_its_owner_may_write_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    await written(path, make_entry(request_id="first"))
    lines = await written(path, make_entry(request_id="second"))
    assert [line["request_id"] for line in lines] == ["first", "second"]
    assert path.stat().st_mode & 0o037 == 0


async def test_a_path_that_cannot_be_opened_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be opened: No such file or directory"):
        AccessLog(str(tmp_path / "no" / "log"), "sct_", asyncio.get_running_loop())


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A named pipe, and a descriptor from which a test can read it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield str(path), reader
    os.close(reader)


def drain(reader: int) -> bytes:
    """Read what a pipe holds now."""
    data = b""
    try:
        while more := os.read(reader, 1 << 20):
            data += more
    except BlockingIOError:
        pass
    return data


def test_a_pipe_without_a_reader_blocks_no_request_and_dropped_lines_are_counted(
    pipe: tuple[str, int],
) -> None:
    path, reader = pipe
    writer = LineWriter(path)
    batch = (b"x" * 1023 + b"\n") * 1024
    handed = 0
    while not writer.dropped:
        writer.write(batch, 1024)
        handed += 1
    assert handed <= BACKLOG_BYTES // len(batch) + 2
    assert writer.dropped == 1024
    received = b""

    def is_through() -> bool:
        nonlocal received
        received += drain(reader)
        return received.count(b"\n") == (handed - 1) * 1024

    settle(is_through)
    writer.write(b"again\n", 1)
    settle(lambda: drain(reader) == b"again\n")
    writer.close()


def test_closing_waits_for_a_blocked_pipe_for_a_limited_time(
    pipe: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.observability.line_writer._CLOSE_SECONDS", 0.05)
    path, reader = pipe
    writer = LineWriter(path)
    writer.write(b"x" * 1_000_000 + b"\n", 1)
    writer.close()
    thread = next(t for t in threading.enumerate() if t.name == "log-writer")
    settle(lambda: drain(reader) is not None and not thread.is_alive())


def test_lines_for_a_pipe_whose_reader_has_ended_are_lost_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(path))
    os.close(reader)
    writer.write(b"one\ntwo\n", 2)
    settle(lambda: writer.dropped == 2)
    writer.close()


def test_a_full_disk_loses_only_the_lines_that_do_not_fit(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        writer.write(b"one\ntwo\nthree\nfour\n", 4)
        settle(lambda: writer.dropped == 2)
        writer.write(b"five\n", 1)
        settle(lambda: writer.dropped == 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, kept)
    writer.write(b"six\n", 1)
    writer.close()
    assert path.read_bytes() == b"one\ntwo\nth\nsix\n"


def test_batches_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path))
    for number in range(1000):
        writer.write(b"%d\n" % number, 1)
    writer.close()
    assert path.read_text().split() == [str(number) for number in range(1000)]
