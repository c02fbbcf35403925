"""TLS contexts for both sides: which versions, which certificates, and whose are verified."""

from __future__ import annotations

import ssl
from pathlib import Path


def listening_context(
    certificate: Path, private_key: Path, client_ca: Path | None
) -> ssl.SSLContext:
    """Return the context of a listening socket: TLS 1.2 or newer, offering HTTP/1.1 alone.

    With ``client_ca``, a caller must present a certificate signed by it (mutual TLS). Raises
    ``OSError`` (``ssl.SSLError`` is one) for files that cannot be read or do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, private_key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def upstream_context(
    ca: Path | None, certificate: Path | None, private_key: Path | None, *, is_verified: bool
) -> ssl.SSLContext:
    """Return the context for connections to an upstream.

    The upstream's name and certificate are verified unless ``is_verified`` is false.
    """
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        context.load_cert_chain(certificate, private_key)
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
