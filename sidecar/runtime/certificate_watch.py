"""Warns once a day of certificates that have expired, or soon will, while the process runs.

What is wrong at the start, or when a file changes, is among the warnings about the configuration.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sidecar.config.certificate_warnings import certificate_warnings
from sidecar.config.settings import Settings

_log = logging.getLogger("sidecar")

DAY_SECONDS: Final = 86_400.0


async def watch_certificates(
    current: Callable[[], Settings], interval_seconds: float = DAY_SECONDS
) -> None:
    """Look at the certificates of the settings in force, again and again, until cancelled."""
    while True:
        await asyncio.sleep(interval_seconds)
        for text in await asyncio.to_thread(certificate_warnings, current(), datetime.now(UTC)):
            _log.warning("%s", text)
