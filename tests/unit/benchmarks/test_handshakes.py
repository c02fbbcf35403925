"""New TLS connections: a full handshake each, or a resumed session; and one cipher for all."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import certificates
from benchmarks.certificates import Certificate
from benchmarks.handshakes import AT_ONCE, Order, connect, run
from benchmarks.processes import BenchError, Cores


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers 200 to the path ``/good``, and 404 to others."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer, and close."""
        self.send_response(200 if self.path == "/good" else 404)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Serves TLS with a certificate of the bench; ``tickets`` is how many a handshake brings."""

    request_queue_size = 64
    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands in the thread of the connection, not in the one that accepts."""
        with self.context.wrap_socket(request, server_side=True) as secured:  # type: ignore[arg-type]
            super().finish_request(secured, client_address)
            secured.unwrap()

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing: a client may go without an end."""


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return certificates.make(tmp_path)


@pytest.fixture
def server(certificate: Certificate) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Answering)
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(certificate.certificate, certificate.private_key)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def order(server: Server, certificate: Certificate) -> Order:
    request = "GET /good HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    authority = str(certificate.certificate)
    return Order(server.server_address[1], request, authority, seconds=0, resumes=False)


def test_connections_that_do_not_resume_make_a_full_handshake_each(order: Order) -> None:
    found = connect(order)

    assert found.count >= 2 * AT_ONCE
    assert found.resumed == 0


def test_connections_that_resume_do_so_each_but_the_first_of_a_thread(order: Order) -> None:
    found = connect(replace(order, resumes=True))

    assert found.resumed == found.count - AT_ONCE > 0


def test_a_server_that_resumes_nothing_is_no_result(server: Server, order: Order) -> None:
    server.context.num_tickets = 0

    with pytest.raises(BenchError, match="resumed"):
        connect(replace(order, resumes=True))


def test_an_answer_other_than_200_is_no_result(order: Order, certificate: Certificate) -> None:
    refused = replace(order, request=order.request.replace("/good", "/bad"))

    with pytest.raises(BenchError, match="404"):
        run(
            refused,
            cores=Cores.of_this_machine().around,
            environment=certificate.client_environment,
        )


def test_clients_of_every_peer_agree_on_the_same_cipher(
    server: Server, certificate: Certificate
) -> None:
    script = (
        "import socket, ssl, sys\n"
        "context = ssl.create_default_context(cafile=sys.argv[1])\n"
        "plain = socket.create_connection(('127.0.0.1', int(sys.argv[2])))\n"
        "print(*context.wrap_socket(plain, server_hostname='127.0.0.1').cipher())\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, certificate.certificate, str(server.server_address[1])],
        env=dict(certificate.client_environment),
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.split() == ["TLS_AES_128_GCM_SHA256", "TLSv1.3", "128"]
