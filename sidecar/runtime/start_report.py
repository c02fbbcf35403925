"""What a start says of itself in the log: program, configuration, store, listeners, workers."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from sidecar import __version__
from sidecar.config.settings import Settings
from sidecar.core import tokens
from sidecar.runtime.addresses import addresses_of
from sidecar.store.store_url import parse_store_url


def describe_start(settings: Settings, source: Path | None, workers: int) -> Iterator[str]:
    """Yield the lines; none holds a password."""
    how = "compiled" if is_compiled() else "not compiled"
    yield (
        f"auth-sidecar {__version__} ({how}), Python {platform.python_version()}, "
        f"process {os.getpid()}, workers: {workers}"
    )
    yield f"configuration {source or 'without a file'}; store {describe_store(settings)}"
    listed = addresses_of(settings).items()
    yield "listeners: " + ", ".join(f"{use} on {address}" for use, address in listed)


def describe_store(settings: Settings) -> str:
    """Return the store as a log may show it: without user, password and options."""
    if settings.store.url == "embedded":
        return f"embedded in {settings.data_directory}"
    return str(parse_store_url(settings.store.url))


def is_compiled() -> bool:
    """Tell whether mypyc has compiled the modules that every request passes."""
    return not str(tokens.__file__).endswith(".py")
