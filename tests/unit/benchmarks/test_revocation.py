"""What the bench takes for the moment from which a revoked token is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.scenarios.revocation import Watch


class Scripted(BaseHTTPRequestHandler):
    """Answers with one status after another, and notes when."""

    protocol_version = "HTTP/1.1"
    statuses: list[int]
    answered_at: list[float]

    def do_GET(self) -> None:
        self.answered_at.append(time.time())
        self.send_response(self.statuses.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("statuses", "first_refused"),
    [
        ([200, 200, 401], 2),
        ([200, 503, 503, 401], 1),
        ([200, 503, 200, 503, 401], 3),
        ([401], None),
    ],
    ids=str,
)
def test_a_token_is_refused_from_the_first_answer_after_the_last_that_let_it_pass(
    server: ThreadingHTTPServer, statuses: list[int], first_refused: int | None
) -> None:
    Scripted.statuses, Scripted.answered_at = [*statuses], []
    watch = Watch(server.server_address[1], "token", threading.Barrier(1))

    watch.start().join()

    assert watch.is_refused
    assert watch.has_passed is (first_refused is not None)
    if first_refused is not None:
        answered_at = [*Scripted.answered_at, time.time()]
        assert answered_at[first_refused] <= watch.refused_at <= answered_at[first_refused + 1]
