"""A process that outlives its certificate says so once a day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.config.certificate_warnings import SOON, certificate_warnings
from sidecar.config.load import load
from sidecar.runtime.certificate_watch import watch_certificates
from tests.unit.config.test_warnings import NOW, YEAR, certificate

TLS = """\
listen: {tls: {certificate: a.pem, private_key: a.key}}
upstreams: {b: {url: 'https://b:1', tls: {ca: b.pem}}, c: {url: 'http://c:1'}}
routes: [{path: /x, upstream: b}, {path: /y, upstream: c}]
"""


async def test_certificates_are_looked_at_again_and_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate(tmp_path, "a", YEAR)
    certificate(tmp_path, "b", YEAR)
    (tmp_path / "sidecar.yaml").write_text(TLS)
    settings = load(tmp_path / "sidecar.yaml", {})
    assert certificate_warnings(settings, NOW) == []
    later = NOW + YEAR[1] - SOON / 2
    assert [text.partition(": ")[0] for text in certificate_warnings(settings, later)] == [
        "listen.tls.certificate",
        "upstreams.b.tls.ca",
    ]
    certificate(tmp_path, "a", (YEAR[0] * 9000, YEAR[0] * 8000))
    assert datetime.now(UTC) > NOW + YEAR[0] * 8000
    watching = asyncio.create_task(watch_certificates(lambda: settings, 0.01))
    async with asyncio.timeout(10):
        while len(caplog.records) < 2:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert "listen.tls.certificate: the certificate expired on " in caplog.text
