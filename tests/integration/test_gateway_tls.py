"""The data path over TLS: there is no half-close, and an end may come together with data."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sidecar.outgoing.resolver import CachingResolver
from sidecar.wire import accepting
from sidecar.wire.destination import Destination
from sidecar.wire.dialing import Dialer
from sidecar.wire.tls import listening_context
from sidecar.wire.upstream import UpstreamConnection
from tests.fake_resolver import FakeResolver
from tests.in_process import OK, Peer, Upstream, answering, on_uvloop, request, running_proxy
from tests.patience import PATIENCE_SECONDS
from tests.unit.wire.fake_upstream import FakeSink

MIB = 1024 * 1024
HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket")
SWITCH = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 that signs itself."""

    path: Path
    key: Path

    def of_server(self, client_ca: Path | None = None) -> ssl.SSLContext:
        return listening_context(self.path, self.key, client_ca)

    def of_client(self, *, shows_itself: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.path))
        if shows_itself:
            context.load_cert_chain(self.path, self.key)
        return context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sidecar.test")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    result = Certificate(directory / "tls.crt", directory / "tls.key")
    result.path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    result.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return result


@on_uvloop
async def test_a_caller_over_tls_is_served_and_named_so(certificate: Certificate) -> None:
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        caller = await proxy.caller(certificate.of_client())
        for _ in range(2):
            await caller.send(request())
            assert (await caller.response())[1] == b"ok"
        assert b"\r\nX-Forwarded-Proto: https\r\n" in proxy.upstream.received[0]


@on_uvloop
async def test_only_callers_with_a_certificate_get_in_where_one_is_asked_for(
    certificate: Certificate,
) -> None:
    async with running_proxy(listen_tls=certificate.of_server(client_ca=certificate.path)) as proxy:
        known = await proxy.caller(certificate.of_client(shows_itself=True))
        await known.send(request())
        assert (await known.response())[1] == b"ok"
        with pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012  when, is TLS's matter
            stranger = await proxy.caller(certificate.of_client())
            await stranger.send(request())
            if not await stranger.rest():
                raise ConnectionResetError


@on_uvloop
async def test_a_refused_upload_over_tls_gets_its_denial_whole(certificate: Certificate) -> None:
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        caller = await proxy.caller(certificate.of_client())
        data = request("POST", "/x", f"Content-Length: {4 * MIB}", token="x" * 20)
        sending = asyncio.create_task(caller.send(data + b"x" * (4 * MIB)))
        head, body = await caller.response()
        assert (head.split(b" ")[1], b"invalid_token" in body) == (b"401", True)
        await asyncio.gather(sending, return_exceptions=True)


@on_uvloop
async def test_a_caller_over_tls_that_leaves_ends_its_exchange(certificate: Certificate) -> None:
    async def silent(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(silent, listen_tls=certificate.of_server()) as proxy:
        caller = await proxy.caller(certificate.of_client())
        await caller.send(request())
        await proxy.settle(lambda: len(proxy.upstream.peers) == 1)
        caller.reset()
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        await proxy.settle(lambda: "open=0" in repr(proxy.pool))
        assert [entry.status for entry in proxy.entries] == [499]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
        OK,
    ],
)
@on_uvloop
async def test_an_end_that_comes_with_the_answer_is_told_once(
    certificate: Certificate, answer: bytes
) -> None:
    """Data and TLS's own close come in one read, before the gateway has its turn."""

    async def answer_and_close(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        peer.writer.write(answer)
        peer.writer.close()

    tls = {"ca": str(certificate.path)}
    async with running_proxy(
        answer_and_close, upstream_tls=certificate.of_server(), tls=tls
    ) as proxy:
        caller = await proxy.caller()
        for _ in range(5):
            await caller.send(request())
            assert (await caller.response())[1] == b"ok"


@on_uvloop
async def test_an_upstream_whose_certificate_nobody_knows_is_not_spoken_to(
    certificate: Certificate,
) -> None:
    async with running_proxy(upstream_tls=certificate.of_server()) as proxy:
        caller = await proxy.caller()
        await caller.send(request())
        assert b"upstream_unreachable" in (await caller.response())[1]
        assert proxy.upstream.peers == []


@pytest.mark.parametrize(("verify", "code"), [(False, b"ok"), (True, b"upstream_unreachable")])
def test_whichever_address_is_taken_the_certificate_must_be_of_the_name(
    certificate: Certificate, verify: bool, code: bytes
) -> None:
    """This one is of 127.0.0.1 alone. The name is sent ahead (RFC 6066 section 3)."""

    @on_uvloop
    async def play() -> None:
        told: list[str | None] = []
        server = certificate.of_server()
        server.sni_callback = lambda connection, name, context: told.append(name)
        async with running_proxy(
            upstream_tls=server,
            host="service",
            dialer=Dialer(CachingResolver(FakeResolver(service=["127.0.0.1"]))),
            tls={"ca": str(certificate.path), "verify": verify},
        ) as proxy:
            caller = await proxy.caller()
            await caller.send(request())
            assert code in (await caller.response())[1]
            assert told == ["service"]

    play()


@on_uvloop
async def test_a_kept_connection_over_tls_serves_again(certificate: Certificate) -> None:
    tls = {"ca": str(certificate.path)}
    async with running_proxy(answering(OK), upstream_tls=certificate.of_server(), tls=tls) as proxy:
        caller = await proxy.caller()
        for _ in range(3):
            await caller.send(request())
            assert (await caller.response())[1] == b"ok"
        assert len(proxy.upstream.peers) == 1


@on_uvloop
async def test_a_tunnel_through_tls_on_both_sides_ends_with_either(
    certificate: Certificate,
) -> None:
    async def echo(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(SWITCH)
        while data := await peer.read():
            await peer.send(data)
            if data == b"bye":
                return

    tls = {"ca": str(certificate.path)}
    async with running_proxy(
        echo, tls=tls, listen_tls=certificate.of_server(), upstream_tls=certificate.of_server()
    ) as proxy:
        for last in (b"bye", b"ping"):
            caller = await proxy.caller(certificate.of_client())
            await caller.send(request("GET", "/ws", *HANDSHAKE))
            assert (await caller.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await caller.send(last)
            assert await caller.exactly(len(last)) == last
            if last == b"ping":
                await caller.close()
            await proxy.settle(lambda: proxy.server.open_connections == 0)
            await proxy.settle(lambda: "open=0" in repr(proxy.pool))


@on_uvloop
async def test_a_caller_that_closes_is_no_reason_for_a_warning(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        caller = await proxy.caller(certificate.of_client())
        await caller.send(request())
        await caller.response()
        await caller.close()
        await proxy.settle(lambda: proxy.server.open_connections == 0)
    assert caplog.messages == []


@on_uvloop
async def test_a_connection_counts_before_its_handshake_and_above_the_limit_it_is_cut(
    certificate: Certificate,
) -> None:
    limits = {"connections": 5}
    async with running_proxy(listen_tls=certificate.of_server(), limits=limits) as proxy:
        silent = [await proxy.caller() for _ in range(20)]
        await proxy.settle(lambda: proxy.server.open_connections == 5)
        assert [await peer.rest() for peer in silent[5:]] == [b""] * 15
        for peer in silent[:5]:
            peer.reset()
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        caller = await proxy.caller(certificate.of_client())
        await caller.send(request())
        assert (await caller.response())[1] == b"ok"


@on_uvloop
async def test_an_address_has_no_more_connections_than_it_may(certificate: Certificate) -> None:
    limits = {"connections_per_address": 2}
    async with running_proxy(listen_tls=certificate.of_server(), limits=limits) as proxy:
        first = [await proxy.caller(certificate.of_client()) for _ in range(2)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await proxy.caller(certificate.of_client())
        first[0].reset()
        await proxy.settle(lambda: proxy.server.open_connections == 1)
        again = await proxy.caller(certificate.of_client())
        await again.send(request())
        assert (await again.response())[1] == b"ok"


FIRST_FLIGHTS = {
    "nothing": [],
    "half of a header": [b"\x16\x03"],
    "half of a message": [b"\x16\x03\x01\x02\x00\x01\x00"],
    "dribbled": [b"\x16", b"\x03", b"\x01", b"\x02", b"\x00", b"\x01"],
}


@pytest.mark.parametrize("name", FIRST_FLIGHTS)
@on_uvloop
async def test_a_handshake_that_never_begins_is_given_up_in_time(
    certificate: Certificate, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "HANDSHAKE_SECONDS", 0.3)
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        peer = await proxy.caller()
        for piece in FIRST_FLIGHTS[name]:
            await peer.send(piece)
            await asyncio.sleep(0.01)
        assert await peer.rest() == b""
        await proxy.settle(lambda: proxy.server.open_connections == 0)


@on_uvloop
async def test_a_caller_that_leaves_within_its_first_message_is_forgotten_at_once(
    certificate: Certificate,
) -> None:
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        peer = await proxy.caller()
        await peer.send(b"\x16\x03\x01\x02\x00\x01\x00")
        await proxy.settle(lambda: proxy.server.open_connections == 1)
        peer.writer.write_eof()
        await proxy.settle(lambda: proxy.server.open_connections == 0)


@on_uvloop
async def test_what_is_no_tls_is_told_so(certificate: Certificate) -> None:
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        peer = await proxy.caller()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await peer.rest()
        await proxy.settle(lambda: proxy.server.open_connections == 0)


@on_uvloop
async def test_a_first_message_that_comes_in_pieces_begins_the_handshake(
    certificate: Certificate,
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificate.of_client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        peer = await proxy.caller()
        for start in range(0, len(hello), 50):
            await peer.send(hello[start : start + 50])
            await asyncio.sleep(0.002)
        assert (await peer.read()).startswith(b"\x16\x03")


@on_uvloop
async def test_too_many_handshakes_cost_the_network_that_has_most_its_oldest(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "MOST_HANDSHAKES", 4)
    monkeypatch.setattr(accepting, "_STALE_SECONDS", 0.0)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificate.of_client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    async with running_proxy(listen_tls=certificate.of_server()) as proxy:
        stuck = [await proxy.caller() for _ in range(12)]
        for peer in stuck:
            await peer.send(hello)
        caller = await proxy.caller(certificate.of_client())
        await caller.send(request())
        assert (await caller.response())[1] == b"ok"


@on_uvloop
async def test_a_proxy_header_precedes_the_handshake(certificate: Certificate) -> None:
    def ask(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as plain:
            plain.sendall(b"PROXY TCP4 198.51.100.9 192.0.2.1 4096 443\r\n")
            with certificate.of_client().wrap_socket(plain, server_hostname="127.0.0.1") as secret:
                secret.sendall(request())
                return secret.recv(15)

    tls = certificate.of_server()
    async with running_proxy(answering(OK), listen_tls=tls, is_balancer=lambda _: True) as proxy:
        assert await asyncio.to_thread(ask, proxy.port) == b"HTTP/1.1 200 OK"
        assert proxy.entries[-1].client == "198.51.100.9"


@on_uvloop
async def test_what_a_tls_service_sent_before_its_end_is_read_by_a_reader_that_paused(
    certificate: Certificate,
) -> None:
    is_paused = asyncio.Event()

    async def send_and_close(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        await is_paused.wait()
        await peer.send(b"l" * 100_000)
        with socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())) as tcp:
            tcp.shutdown(socket.SHUT_WR)

    upstream, loop = Upstream(), asyncio.get_running_loop()
    upstream.scripts = [send_and_close]
    port = await upstream.start(certificate.of_server())
    where = Destination("service", "127.0.0.1", port, tls=certificate.of_client())
    connection = await Dialer().open(
        where, loop, lambda: UpstreamConnection(loop, "service", lambda _: None)
    )
    connection.start("GET", False, b"GET / HTTP/1.1\r\n\r\n", True, FakeSink())
    await asyncio.wait_for(connection.answered(), PATIENCE_SECONDS)
    connection.set_reading(False)
    is_paused.set()
    await asyncio.sleep(0.1)  # the end comes
    assert connection.reader.waiting_bytes == 0
    connection.set_reading(True)
    await asyncio.wait_for(connection.finished(), PATIENCE_SECONDS)
    assert connection.take() == b"l" * 100_000
    await upstream.stop()
