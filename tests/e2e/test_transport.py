"""Unix sockets, TLS and mutual TLS, towards callers and towards upstreams."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import Tokens, ask, plain_settings
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, as PEM files."""

    certificate: str
    private_key: str


class Authority:
    """A certificate authority for one test run."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basics = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(basics, critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = str(directory / f"{name}.pem")
        Path(self.file).write_bytes(certificate.public_bytes(Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
        )

    def issue(self, name: str) -> Issued:
        """Issue a certificate for 127.0.0.1 that serves as a server's and as a client's."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(subject, key)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file = self._directory / f"{name}.crt"
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file = self._directory / f"{name}.key"
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Issued(str(certificate_file), str(key_file))


@dataclass(frozen=True, slots=True)
class Papers:
    """The certificates of a test run."""

    authority: str
    stranger: str
    server: Issued
    client: Issued
    forged: Issued


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    directory = tmp_path_factory.mktemp("papers")
    ours, strange = Authority(directory, "ours"), Authority(directory, "strange")
    return Papers(
        ours.file, strange.file, ours.issue("server"), ours.issue("client"), strange.issue("forged")
    )


def server_context(issued: Issued, client_ca: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.private_key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def client_context(authority: str, issued: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if issued:
        context.load_cert_chain(issued.certificate, issued.private_key)
    return context


def serve_one(
    proxy: ProxyProcess, tokens: Tokens, tls: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Make one call; return its status and body."""
    sock: socket.socket = proxy.connect()
    try:
        sock = tls.wrap_socket(sock, server_hostname="127.0.0.1") if tls else sock
        answer = ask(RawClient(sock), b"access_token: " + tokens.valid.encode())
    finally:
        sock.close()
    return answer.status, answer.body


SERVED = (200, b"account=acme target=/v1/dynamic/listener/a1 body=0")


def test_unix_sockets_on_both_sides(redis: RedisServer, tokens: Tokens, tmp_path: Path) -> None:
    upstream = Recorder(unix_path=str(tmp_path / "u.sock"))
    settings = plain_settings(redis, upstream.url)
    settings["listen"] = {"address": f"unix:{tmp_path}/p.sock"}
    with ProxyProcess(tmp_path, settings) as proxy:
        assert serve_one(proxy, tokens) == SERVED
    assert upstream.exchanges[0].values("x-account") == [b"acme"]
    upstream.close()


def test_a_unix_socket_left_by_a_dead_process_is_no_hindrance(
    redis: RedisServer, tokens: Tokens, recorder: Recorder, tmp_path: Path
) -> None:
    settings = plain_settings(redis, recorder.url)
    settings["listen"] = {"address": f"unix:{tmp_path}/p.sock"}
    left = socket.socket(socket.AF_UNIX)
    left.bind(f"{tmp_path}/p.sock")
    left.close()
    with ProxyProcess(tmp_path, settings) as proxy:
        assert serve_one(proxy, tokens) == SERVED


def listening(papers: Papers, client_ca: str | None) -> dict[str, Any]:
    tls = {"certificate": papers.server.certificate, "private_key": papers.server.private_key}
    if client_ca:
        tls["client_ca"] = client_ca
    return {"address": f"127.0.0.1:{free_port()}", "tls": tls}


def test_tls_towards_callers(
    redis: RedisServer, tokens: Tokens, recorder: Recorder, papers: Papers, tmp_path: Path
) -> None:
    settings = plain_settings(redis, recorder.url) | {"listen": listening(papers, None)}
    with ProxyProcess(tmp_path, settings) as proxy:
        assert serve_one(proxy, tokens, client_context(papers.authority)) == SERVED
        assert recorder.exchanges[-1].values("x-forwarded-proto") == [b"https"]
        with pytest.raises(ssl.SSLCertVerificationError):
            serve_one(proxy, tokens, client_context(papers.stranger))


def test_mutual_tls_towards_callers_lets_in_only_those_with_a_certificate(
    redis: RedisServer, tokens: Tokens, recorder: Recorder, papers: Papers, tmp_path: Path
) -> None:
    settings = plain_settings(redis, recorder.url)
    settings["listen"] = listening(papers, papers.authority)
    with ProxyProcess(tmp_path, settings) as proxy:
        assert serve_one(proxy, tokens, client_context(papers.authority, papers.client)) == SERVED
        seen = len(recorder.exchanges)
        for issued in (None, papers.forged):
            assert not is_served(proxy, client_context(papers.authority, issued))
        assert len(recorder.exchanges) == seen


def is_served(proxy: ProxyProcess, context: ssl.SSLContext) -> bool:
    """Tell whether a TLS client gets any answer at all."""
    try:
        with context.wrap_socket(proxy.connect(), server_hostname="127.0.0.1") as sock:
            sock.sendall(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
            return bool(sock.recv(1))
    except OSError:
        return False


# Each an upstream of its own: what the file says of TLS, whether it asks for a certificate of ours.
UPSTREAMS = (
    ("trusted", False, 200),
    ("trusted", True, 502),
    ("mutual", True, 200),
    ("stranger", False, 502),
    ("system", False, 502),
    ("unverified", False, 200),
)


@pytest.fixture(scope="module")
def before_tls(
    redis: RedisServer, papers: Papers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """Run a proxy before all of ``UPSTREAMS``; the path is the number of one."""
    shown = {"certificate": papers.client.certificate, "private_key": papers.client.private_key}
    said: dict[str, dict[str, Any]] = {
        "trusted": {"ca": papers.authority},
        "mutual": {"ca": papers.authority, **shown},
        "stranger": {"ca": papers.stranger},
        "system": {},
        "unverified": {"verify": False},
    }
    by_asking = {
        False: Recorder(tls=server_context(papers.server)),
        True: Recorder(tls=server_context(papers.server, papers.authority)),
    }
    settings = plain_settings(redis, "") | {
        "upstreams": {
            f"u{number}": {"url": by_asking[asks].url, "tls": dict(said[tls])}
            for number, (tls, asks, _) in enumerate(UPSTREAMS)
        },
        "routes": [
            {"path": f"/{number}", "upstream": f"u{number}"} for number in range(len(UPSTREAMS))
        ],
    }
    with ProxyProcess(tmp_path_factory.mktemp("tls"), settings) as proxy:
        yield proxy
    for upstream in by_asking.values():
        upstream.close()


@pytest.mark.parametrize("number", range(len(UPSTREAMS)), ids=lambda n: f"{UPSTREAMS[n][0]}, {n}")
def test_tls_towards_an_upstream(number: int, before_tls: ProxyProcess, tokens: Tokens) -> None:
    """The upstream's certificate is checked, and ours shown, as the file says."""
    with closing(RawClient(before_tls.connect())) as client:
        answer = ask(client, b"access_token: " + tokens.valid.encode(), target=b"/%d" % number)
    assert answer.status == UPSTREAMS[number][2], answer.body
