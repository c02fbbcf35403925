"""A certificate authority and a certificate of it for 127.0.0.1, as Redis and its clients use."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """Files: who signed, the certificate, and its key."""

    authority: Path
    certificate: Path
    key: Path

    def settings(self, *, of_clients: bool = False) -> list[str]:
        """Return Redis' settings for TLS everywhere, and whether clients must show one too."""
        return [
            *("--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key)),
            *("--tls-ca-cert-file", str(self.authority)),
            *("--tls-auth-clients", "yes" if of_clients else "no"),
            *("--tls-replication", "yes", "--tls-cluster", "yes"),
        ]


def make_certificates(directory: Path) -> Certificates:
    """Write an authority and a certificate into a directory."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    made = Certificates(directory / "ca.crt", directory / "redis.crt", directory / "redis.key")
    authority = _builder("authority", "authority", authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = _builder("redis", "authority", key).add_extension(
        x509.SubjectAlternativeName([address]), critical=False
    )
    for path, builder in ((made.authority, authority), (made.certificate, certificate)):
        signed = builder.sign(authority_key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
    )
