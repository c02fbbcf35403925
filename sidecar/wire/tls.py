"""TLS on both sides: which versions, whose certificates, who is checked."""

from __future__ import annotations

import ssl
from pathlib import Path


def listening_context(
    certificate: Path, private_key: Path, client_ca: Path | None
) -> ssl.SSLContext:
    """Return the context of the listening side: TLS 1.2 or newer, HTTP/1.1 alone offered.

    With ``client_ca``, a caller must show a certificate that it signed (mutual TLS). Raises
    ``OSError`` (``ssl.SSLError`` among it) for files that don't fit.
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
    """Return the context towards an upstream; its name and certificate are checked unless told
    otherwise.
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
