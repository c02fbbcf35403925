"""Opens the store for a command: with ``embedded``, that of the sidecar running here, if any."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sidecar.cli.progress import activity

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.store.port import TokenArchive, TokenStore
    from sidecar.tokens.lifecycle import Lifecycle

_TIMEOUT_SECONDS = 1.0
_STEP_BUDGET_SECONDS = 10.0  # generous, so that one slow step of thousands does not end them all


@asynccontextmanager
async def reached_store(settings: Settings) -> AsyncIterator[TokenStore]:
    """Open the store of a configuration.

    ``embedded`` is the Redis of a sidecar that runs on the same data directory; without one, a
    Redis is started on that directory for as long as the context lasts. Raises ``UsageError`` if
    there is no data: only ``sidecar run`` begins a store.
    """
    from sidecar.runtime.parts import opened_store
    from sidecar.store.embedded_data import has_data, no_store

    starts = False
    if settings.store.url == "embedded":
        if _is_answering(_embedded_socket(settings)):
            running = settings.store.model_copy(update={"url": url_of(settings)})
            settings = settings.model_copy(update={"store": running})
        elif not has_data(settings.data_directory):
            raise no_store(settings.data_directory, Path.cwd())
        else:
            starts = True
    async with AsyncExitStack() as opened:
        with activity("start the embedded Redis") if starts else nullcontext():
            store = await opened.enter_async_context(opened_store(settings))
        yield store


@asynccontextmanager
async def readable_store(settings: Settings) -> AsyncIterator[TokenStore]:
    """Open the store as ``reached_store`` does; one that ``run`` has not begun yet has no tokens.

    For questions alone: what is written is lost.
    """
    if not has_begun(settings):
        from sidecar.runtime.parts import MemoryStore

        yield MemoryStore(time.time)
        return
    async with reached_store(settings) as store:
        yield store


def has_begun(settings: Settings) -> bool:
    """Tell whether there is a store: always, unless it is embedded and ``run`` has begun none."""
    from sidecar.store.embedded_data import has_data

    return settings.store.url != "embedded" or has_data(settings.data_directory)


def url_of(settings: Settings) -> str:
    """Return the store's URL; for ``embedded``, that of its socket, valid in ``reached_store``."""
    if settings.store.url != "embedded":
        return settings.store.url
    return f"unix://{quote(str(_embedded_socket(settings)))}"


@asynccontextmanager
async def reached_archive(settings: Settings) -> AsyncIterator[TokenArchive]:
    """Open the store as ``reached_store`` does, to export or import all its tokens."""
    from sidecar.runtime.parts import connect_archive

    async with reached_store(settings):
        url, prefix = url_of(settings), settings.store.prefix
        archive = connect_archive(url, prefix=prefix, budget_seconds=_STEP_BUDGET_SECONDS)
        try:
            yield archive
        finally:
            await archive.close()


@asynccontextmanager
async def reached_lifecycle(settings: Settings) -> AsyncIterator[Lifecycle]:
    """Open the store as ``reached_store`` does, to create and change tokens."""
    async with reached_store(settings) as store:
        yield lifecycle_on(store, settings)


def lifecycle_on(store: TokenStore, settings: Settings) -> Lifecycle:
    """Return the ``Lifecycle`` of tokens in ``store``; the first configured key signs JWTs."""
    from sidecar.runtime.build import build_accounts, build_claimants
    from sidecar.runtime.signing import signer_of
    from sidecar.tokens.lifecycle import Lifecycle

    accounts, prefix, signer = build_accounts(settings), settings.tokens.prefix, signer_of(settings)
    claimants = build_claimants(settings)
    return Lifecycle(store, accounts, prefix, time.time, os.urandom, signer, claimants)


def _embedded_socket(settings: Settings) -> Path:
    from sidecar.runtime.parts import find_socket

    return find_socket(settings.data_directory)


def _is_answering(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_TIMEOUT_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
