"""A caller that is refused in the middle of its upload reads why, however slowly it sends."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass

import pytest

from sidecar.wire.tls import listening_context
from tests.in_process import on_uvloop, request, running_proxy
from tests.patience import PATIENCE_SECONDS
from tests.redis_certificates import Certificates, make_certificates

UNKNOWN = "an_unknown_token_of_some_length"


@dataclass(frozen=True)
class Upload:
    """A head, and what follows it: so many pieces, with so many seconds between two of them."""

    name: str
    head: bytes
    status: bytes = b"401"
    piece: bytes = b"x" * 1024
    pieces: int = 7
    pause_seconds: float = 0.5


def post(*lines: str, path: str = "/x") -> bytes:
    return request("POST", path, *lines, token=UNKNOWN)


SIZED = f"Content-Length: {7 * 1024}"
CHUNKED = "Transfer-Encoding: chunked"
UPLOADS = [
    Upload("sized", post(SIZED)),
    Upload("chunked", post(CHUNKED), piece=b"400\r\n" + b"x" * 1024 + b"\r\n"),
    Upload("expecting a 100, and not waiting for it", post(SIZED, "Expect: 100-continue")),
    Upload("the last on its connection", post(SIZED, "Connection: close")),
    Upload("too large", post(f"Content-Length: {1 << 30}"), b"413"),
    Upload("of many bytes", post(f"Content-Length: {7 << 18}"), piece=b"x" * (1 << 18)),
    Upload("with long pauses", post("Content-Length: 2048"), pieces=2, pause_seconds=3.0),
    Upload("to an unsafe path", post(SIZED, path="/a/../b"), b"400"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def play(port: int, upload: Upload, tls: ssl.SSLContext | None) -> bytes:
    """Send the whole upload, and only then read; return the status. Raises ``OSError``."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as plain:
        sock = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
        with sock:
            sock.sendall(upload.head)
            for _ in range(upload.pieces):
                time.sleep(upload.pause_seconds)
                sock.sendall(upload.piece)
            return sock.recv(65536).split(b" ")[1]


@pytest.mark.parametrize("over", ["plain", "TLS 1.2", "TLS 1.3"])
def test_a_refused_upload_gets_its_answer_and_no_reset(
    certificates: Certificates, over: str
) -> None:
    """All at once, as each takes more than the two seconds that other connections have to end."""
    listening = calling = None
    if over != "plain":
        listening = listening_context(certificates.certificate, certificates.key, None)
        calling = ssl.create_default_context(cafile=str(certificates.authority))
        is_new = over == "TLS 1.3"
        calling.maximum_version = ssl.TLSVersion.TLSv1_3 if is_new else ssl.TLSVersion.TLSv1_2

    @on_uvloop
    async def run() -> None:
        async with running_proxy(listen_tls=listening, limits={"body_bytes": 1 << 28}) as proxy:
            playing = [asyncio.to_thread(play, proxy.port, upload, calling) for upload in UPLOADS]
            found = await asyncio.gather(*playing, return_exceptions=True)
        told = {upload.name: one for upload, one in zip(UPLOADS, found, strict=True)}
        assert told == {upload.name: upload.status for upload in UPLOADS}

    run()
