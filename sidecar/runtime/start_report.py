"""What a start says of itself in the log: program, configuration, store, listeners, workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sidecar.config.settings import Settings
from sidecar.program import describe_program
from sidecar.runtime.addresses import addresses_of
from sidecar.store.store_url import parse_store_url


def describe_start(settings: Settings, source: Path | None, workers: int) -> Iterator[str]:
    """Yield the lines; none holds a password."""
    yield f"auth-sidecar {describe_program()}, process {os.getpid()}, workers: {workers}"
    yield f"configuration {source or 'without a file'}; store {describe_store(settings)}"
    listed = addresses_of(settings).items()
    yield "listeners: " + ", ".join(f"{use} on {address}" for use, address in listed)


def describe_store(settings: Settings) -> str:
    """Return the store as a log may show it: without user, password and options."""
    if settings.store.url == "embedded":
        return f"embedded in {settings.data_directory}"
    return str(parse_store_url(settings.store.url))
