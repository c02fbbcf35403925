"""What ``sidecar check --connect`` says of a trusted issuer: which of its keys verify nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.cli.connections import ConnectionReport
from sidecar.cli.redis_settings import Finding, Severity
from sidecar.core.key_documents import LoadedKeys, SkippedKey, load_key_set

if TYPE_CHECKING:
    from sidecar.config.settings import TrustedIssuerSettings


async def try_issuer(issuer: TrustedIssuerSettings) -> ConnectionReport:
    """Read an issuer's key set as the proxy does, and name the keys that can't be used."""
    subject = f"issuer {issuer.issuer}"
    try:
        loaded = await _load(issuer)
    except Exception as error:  # whatever a foreign server provokes, there are no keys
        from sidecar.auth.issuers import describe_failure

        text = (
            f"its keys can't be had ({describe_failure(error)}), so its JWTs are answered with "
            f"503; check jwks_{'file' if issuer.jwks_url is None else 'url'}"
        )
        return ConnectionReport(subject, (Finding(Severity.PROBLEM, text),))
    total = len(loaded.keys) + len(loaded.skipped)
    return ConnectionReport(subject, tuple(_judge(key, total) for key in loaded.skipped))


async def _load(issuer: TrustedIssuerSettings) -> LoadedKeys:
    from sidecar.auth.bounded_get import get
    from sidecar.auth.issuers import FetchLimits

    limits = FetchLimits()
    if issuer.jwks_url is None:
        assert issuer.jwks_file is not None  # the configuration has one of the two
        document = issuer.jwks_file.read_bytes()
        return load_key_set(document, issuer.algorithms, is_local=True)
    document = await get(
        issuer.jwks_url, timeout_seconds=limits.timeout_seconds, max_bytes=limits.max_bytes
    )
    return load_key_set(document, issuer.algorithms, is_local=False)


def _judge(key: SkippedKey, total: int) -> Finding:
    severity = Severity.WARNING if key.is_odd else Severity.NOTE
    return Finding(severity, f"key {key.position} of {total} is not used: {key.reason}")
