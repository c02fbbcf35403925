"""A service that shows a certificate for another name than its URL has: ``tls.server_name``."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sidecar.outgoing.resolver import CachingResolver
from sidecar.wire.destination import Destination
from sidecar.wire.dialing import Dialer
from sidecar.wire.tls import upstream_context
from sidecar.wire.upstream import UpstreamConnection
from tests.fake_resolver import FakeResolver
from tests.in_process import on_uvloop


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for service.internal, *.pods.internal and 127.0.0.7, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service.internal")])
    names = [
        x509.DNSName("service.internal"),
        x509.DNSName("*.pods.internal"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.7")),
    ]
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    paths = directory / "tls.crt", directory / "tls.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    paths[1].write_bytes(key.private_bytes(*pem, serialization.NoEncryption()))
    return paths


@dataclass
class Service:
    port: int = 0
    asked_for: list[str | None] = field(default_factory=list)


@asynccontextmanager
async def running_service(certificate: tuple[Path, Path]) -> AsyncIterator[Service]:
    service = Service()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _tls, name, _context: service.asked_for.append(name)
    listening = await asyncio.start_server(lambda _r, w: None, "127.0.0.1", 0, ssl=context)
    service.port = listening.sockets[0].getsockname()[1]
    yield service
    listening.close()


async def dial(service: Service, certificate: Path, host: str, name: str | None) -> None:
    """Open and close one connection; raises what the proxy would get."""
    loop = asyncio.get_running_loop()
    names = {host: ["127.0.0.1"]}
    destination = Destination(
        name="service",
        host=host,
        port=service.port,
        tls=upstream_context(certificate, None, None, is_verified=True),
        server_name=name,
    )
    dialer = Dialer(CachingResolver(FakeResolver(**names)))
    connection = await dialer.open(
        destination, loop, lambda: UpstreamConnection(loop, "service", lambda gone: None)
    )
    connection.abort()


ACCEPTED = [
    ("127.0.0.1", "service.internal", "service.internal"),
    ("other", "service.internal", "service.internal"),
    ("other", "a.pods.internal", "a.pods.internal"),
    ("other", "127.0.0.7", None),  # an address is not sent (RFC 6066 section 3)
    ("service.internal", None, "service.internal"),
    ("service.internal.", None, "service.internal"),
]
REFUSED = [
    ("127.0.0.1", None),
    ("other", None),
    ("service.internal", "other"),
    ("127.0.0.1", "a.b.pods.internal"),
    ("127.0.0.1", "127.0.0.8"),
]


@pytest.mark.parametrize(("host", "name", "sent"), ACCEPTED)
def test_the_name_of_the_settings_is_asked_for_and_verified(
    certificate: tuple[Path, Path], host: str, name: str | None, sent: str | None
) -> None:
    @on_uvloop
    async def play() -> None:
        async with running_service(certificate) as service:
            await dial(service, certificate[0], host, name)
            assert service.asked_for == [sent]

    play()


@pytest.mark.parametrize(("host", "name"), REFUSED)
def test_a_certificate_for_another_name_is_refused(
    certificate: tuple[Path, Path], host: str, name: str | None
) -> None:
    @on_uvloop
    async def play() -> None:
        async with running_service(certificate) as service:
            with pytest.raises(ssl.SSLCertVerificationError):
                await dial(service, certificate[0], host, name)

    play()
