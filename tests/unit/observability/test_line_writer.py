"""Lines of several processes stay whole, even if one is killed or the file is moved away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.core.errors import UsageError
from sidecar.observability.line_writer import LineWriter, WriteLock

PATIENCE_SECONDS = 20.0
BATCHES = 40
LINES = 3

# Writes batches of lines, most of them longer than a pipe takes in one piece, to standard output.
WRITER = """
import json, sys
from sidecar.observability.line_writer import LineWriter, WriteLock
name, lock, batches, lines = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
writer = LineWriter("-", WriteLock(lock))
for batch in range(batches):
    made = [{"who": name, "batch": batch, "fill": name * (5000 * (n + 1))} for n in range(lines)]
    writer.write("".join(json.dumps(one) + "\\n" for one in made).encode(), lines)
print("written", file=sys.stderr, flush=True)
writer.close()
"""


def start_writer(name: str, lock: WriteLock, output: int, batches: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(lock.descriptor), str(batches), str(LINES)],
        stdout=output,
        stderr=subprocess.PIPE,
        pass_fds=[lock.descriptor],
    )


def settle(is_settled: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_settled():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.005)


def read_to_end(reader: int) -> list[bytes]:
    data = b""
    while piece := os.read(reader, 65536):
        data += piece
    os.close(reader)
    return data.split(b"\n")[:-1]


def test_lines_of_several_processes_in_one_pipe_stay_whole() -> None:
    """Each line is longer than a pipe's capacity, and the reader starts late."""
    lock = WriteLock()
    reader, output = os.pipe()
    writers = [start_writer(name, lock, output, BATCHES) for name in "ab"]
    os.close(output)
    lines = [json.loads(line) for line in read_to_end(reader)]
    assert Counter(line["who"] for line in lines) == {"a": BATCHES * LINES, "b": BATCHES * LINES}
    for writer in writers:
        writer.communicate(timeout=PATIENCE_SECONDS)
        assert writer.returncode == 0
    lock.close()


def test_a_process_killed_while_writing_spoils_only_its_own_line() -> None:
    """The pipe is full, so the process is killed within a line; the next writer ends that line."""
    lock = WriteLock()
    reader, output = os.pipe()
    victim = start_writer("v", lock, output, 100)
    assert victim.stderr is not None
    assert victim.stderr.readline() == b"written\n"
    settle(lambda: is_full(output))
    victim.kill()
    victim.communicate(timeout=PATIENCE_SECONDS)
    heir = start_writer("h", lock, output, 2)
    os.close(output)
    whole, broken = [], []
    for line in read_to_end(reader):
        try:
            whole.append(json.loads(line)["who"])
        except ValueError:
            broken.append(line)
    heir.communicate(timeout=PATIENCE_SECONDS)
    assert whole.count("h") == 2 * LINES
    assert len(broken) == 1
    assert b"h" not in broken[0].partition(b'"fill"')[2]
    lock.close()


def is_full(pipe: int) -> bool:
    import select

    return not select.select([], [pipe], [], 0.1)[1]


def test_a_moved_file_gets_the_backlog_before_the_path_is_opened_again(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    writer = LineWriter(str(path))
    writer.write(b"one\n", 1)
    path.rename(moved)
    writer.write(b"two\n", 1)
    writer.reopen()
    writer.write(b"three\n", 1)
    writer.close()
    assert (moved.read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_the_old_file_stays_in_use_if_the_path_cannot_be_opened_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    writer = LineWriter(str(directory / "log"))
    directory.rename(tmp_path / "moved")
    writer.reopen()
    writer.write(b"still here\n", 1)
    writer.close()
    assert (tmp_path / "moved" / "log").read_bytes() == b"still here\n"
    assert "No such file or directory; the old file stays in use" in caplog.text


def test_a_pipe_without_a_reader_is_refused_at_the_start(tmp_path: Path) -> None:
    """Otherwise a start or a reload would wait for a reader."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="nobody reads this pipe"):
        LineWriter(str(path))


# Logs two thousand lines, then waits to be told that there is room again.
TALKER = """
import logging, sys
from sidecar.observability.stderr_log import StderrLines
logging.basicConfig(handlers=[StderrLines()], level=logging.INFO, format="%(message)s")
for number in range(2000):
    logging.info("line %d %s", number, "x" * 100)
print("through", flush=True)
sys.stdin.readline()
logging.info("y" * 10000)
logging.info("the end")
"""


def test_a_standard_error_that_nobody_reads_does_not_block_the_process() -> None:
    """Lost lines are counted, and their number is logged once there is room again."""
    with subprocess.Popen(
        [sys.executable, "-c", TALKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as talker:
        assert talker.stdin is not None
        assert talker.stdout is not None
        assert talker.stderr is not None
        assert talker.stdout.readline() == b"through\n"
        early = os.read(talker.stderr.fileno(), 1 << 20)
        talker.stdin.write(b"\n")
        talker.stdin.close()
        late = talker.stderr.read().decode().splitlines()
    kept = early.decode().splitlines()
    assert kept == [f"line {number} {'x' * 100}" for number in range(len(kept))]
    assert late[0] == f"WARNING {2000 - len(kept)} lines of this log were lost"
    assert late[1].startswith("yyyy")
    assert late[1].endswith("…")
    assert late[2] == "the end"
