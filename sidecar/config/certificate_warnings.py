"""Certificates in files that are not valid now, or not for much longer.

``run`` serves with them nevertheless: what callers and upstreams make of them is theirs to decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.config.diagnostics import Diagnostic
from sidecar.config.document import YamlNode
from sidecar.config.settings import Settings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

SOON: Final = timedelta(days=14)
"""A certificate that ends sooner gets a warning: automatic renewal should have replaced it."""
_MOST_CERTIFICATES: Final = 16
_MOST_BYTES: Final = 1024 * 1024


def warn_of_certificates(root: YamlNode, directory: Path, now: datetime) -> Iterator[Diagnostic]:
    """Yield the warnings about the certificates that a valid file names; reads them."""
    for node, path, is_shown in _certificates_in(root):
        text = judge_file(directory / str(node.value), now, is_shown=is_shown)
        if text is not None:
            yield Diagnostic(*node.position, f"{path}: {text}")


def _certificates_in(root: YamlNode) -> Iterator[tuple[YamlNode, str, bool]]:
    """Yield the files of certificates: those shown to others, and those of authorities."""
    sections = [(root.at("listen", "tls"), "listen.tls", "client_ca")]
    upstreams = root.at("upstreams")
    for name, upstream in (upstreams.entries() if upstreams is not None else {}).items():
        sections.append((upstream.at("tls"), f"upstreams.{name}.tls", "ca"))
    for section, path, authorities in sections:
        for key, is_shown in (("certificate", True), (authorities, False)):
            node = section.at(key) if section is not None else None
            if node is not None:
                yield node, f"{path}.{key}", is_shown


def certificate_warnings(settings: Settings, now: datetime) -> list[str]:
    """Return what is wrong with the certificates that settings name, each with its key; reads them.

    For a process that runs longer than its certificates last.
    """
    named: list[tuple[str, Path | None, bool]] = []
    if (tls := settings.listen.tls) is not None:
        named += [("listen.tls.certificate", tls.certificate, True)]
        named += [("listen.tls.client_ca", tls.client_ca, False)]
    for name, upstream in settings.upstreams.items():
        if upstream.tls is not None:
            path = f"upstreams.{name}.tls"
            named += [(f"{path}.certificate", upstream.tls.certificate, True)]
            named += [(f"{path}.ca", upstream.tls.ca, False)]
    judged = (
        (key, judge_file(path, now, is_shown=is_shown))
        for key, path, is_shown in named
        if path is not None
    )
    return [f"{key}: {text}" for key, text in judged if text is not None]


def judge_file(path: Path, now: datetime, *, is_shown: bool) -> str | None:
    """Return what is wrong with the dates of a PEM file's certificates; ``None``: nothing.

    Of a chain that is shown to others, each must be valid. Of authorities, one is enough.
    """
    judged = [judge_dates(one, now) for one in _read(path)]
    if is_shown:
        return next((text for text in judged if text is not None), None)
    return judged[0] if judged and None not in judged else None


def judge_dates(certificate: Certificate, now: datetime) -> str | None:
    """Return what is wrong with a certificate's dates and what to do; ``None``: nothing."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= now:
        return f"the certificate expired on {ends:%Y-%m-%d}; renew it"
    if begins > now:
        return (
            f"the certificate is not valid before {begins:%Y-%m-%d %H:%M} UTC; check the clock of "
            "this machine, or wait"
        )
    if ends - now < SOON:
        return f"the certificate expires on {ends:%Y-%m-%d}, in {_days(ends - now)}; renew it"
    return None


def _days(left: timedelta) -> str:
    return "1 day" if left.days == 1 else f"{left.days} days" if left.days else "less than a day"


def _read(path: Path) -> list[Certificate]:
    """Return a file's certificates; none if it can't be read (which ``files`` reports)."""
    from cryptography import x509

    try:
        with path.open("rb") as file:
            return x509.load_pem_x509_certificates(file.read(_MOST_BYTES))[:_MOST_CERTIFICATES]
    except (OSError, ValueError):
        return []
