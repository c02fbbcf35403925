"""The certificate of every peer that listens with TLS: ECDSA P-256, signed by itself, made anew for
each stage; and what the load offers, so that all peers agree on the same cipher.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_HOST: Final = "127.0.0.1"
_DAYS: Final = 2

_OFFER: Final = """\
openssl_conf = load
[load]
ssl_conf = modules
[modules]
system_default = offer
[offer]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
"""
"""OpenSSL's own configuration (config(5)): left to itself, each server would choose differently."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files: the certificate, its private key, and the offer of a client (``$OPENSSL_CONF``)."""

    certificate: Path
    private_key: Path
    offer: Path

    @property
    def client_environment(self) -> dict[str, str]:
        """What makes a client that uses OpenSSL offer TLS 1.3 with AES-128-GCM and X25519 alone."""
        return {"OPENSSL_CONF": str(self.offer)}


def make(directory: Path) -> Certificate:
    """Write the files into a directory."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = Certificate(directory / "tls.crt", directory / "tls.key", directory / "offer.cnf")
    made.certificate.write_bytes(_signed_by_itself(key).public_bytes(serialization.Encoding.PEM))
    made.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    made.offer.write_text(_OFFER)
    return made


def _signed_by_itself(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address(_HOST))
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
