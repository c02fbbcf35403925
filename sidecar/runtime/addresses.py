"""Which addresses a configuration listens on, by use: ``proxy``, ``operations``, ``portal``."""

from __future__ import annotations

import os

from sidecar.config.endpoints import SocketAddress
from sidecar.config.settings import Settings
from sidecar.core.errors import UsageError
from sidecar.wire.listening import Slots, bind


def addresses_of(settings: Settings) -> dict[str, SocketAddress]:
    """Return the addresses to listen on, by use."""
    addresses = {"proxy": settings.listen.address}
    if settings.operations is not None:
        addresses["operations"] = settings.operations.address
    if settings.portal is not None:
        addresses["portal"] = settings.portal.address
    return addresses


def bind_for(use: str, address: SocketAddress, count: int) -> Slots:
    """Return listening sockets for ``count`` processes. Raises ``UsageError``."""
    try:
        return bind(address.host, address.port, address.path, count)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error)
        key = "listen.address" if use == "proxy" else f"{use}.address"
        raise UsageError(f"{key}: can't listen on {address}: {reason}") from None
