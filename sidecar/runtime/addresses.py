"""Which addresses a configuration listens on, by use: ``proxy``, ``operations``, ``portal``."""

from __future__ import annotations

import grp
from collections.abc import Iterable

from sidecar.config.endpoints import SocketAddress
from sidecar.config.settings import ListenSettings, Settings
from sidecar.core.errors import UsageError
from sidecar.runtime.bind_advice import explain_bind_error
from sidecar.wire.listening import Slots, UnixAccess, bind, is_of_use, name_of_use

_ANY_V6 = "::"


def addresses_of(settings: Settings) -> dict[str, SocketAddress]:
    """Return the addresses to listen on, by use (``wire.listening`` names several of one use)."""
    listed = enumerate(settings.listen.address)
    addresses = {name_of_use("proxy", number): address for number, address in listed}
    if settings.operations is not None:
        addresses["operations"] = settings.operations.address
    if settings.portal is not None:
        addresses["portal"] = settings.portal.address
    return addresses


def bind_for(use: str, settings: Settings, count: int) -> Slots:
    """Return listening sockets for ``count`` processes. Raises ``UsageError``."""
    addresses = addresses_of(settings)
    address = addresses[use]
    try:
        return bind(
            address.host,
            address.port,
            address.path,
            count,
            access=_access(settings.listen),
            is_v6_only=not _takes_both_families(address, addresses.values()),
        )
    except OSError as error:
        reason = explain_bind_error(error, address)
        key = "listen.address" if is_of_use(use, "proxy") else f"{use}.address"
        raise UsageError(f"{key}: can't listen on {address}: {reason}") from None


def grant_access(address: SocketAddress, settings: Settings) -> None:
    """Set mode and group of a unix socket that is bound already. Raises ``UsageError``."""
    if address.path is None:
        return
    try:
        _access(settings.listen).grant(address.path)
    except OSError as error:
        raise UsageError(f"listen.mode, listen.group: {address}: {error.strerror}") from None


def _access(listen: ListenSettings) -> UnixAccess:
    if listen.group is None:
        return UnixAccess(listen.mode)
    if listen.group.isdecimal():
        return UnixAccess(listen.mode, int(listen.group))
    try:
        return UnixAccess(listen.mode, grp.getgrnam(listen.group).gr_gid)
    except KeyError:
        raise UsageError(f"listen.group: {listen.group} is not a group of this system") from None


def _takes_both_families(address: SocketAddress, others: Iterable[SocketAddress]) -> bool:
    """Return whether ``[::]`` serves IPv4 too: unless another address does on that port."""
    if address.host != _ANY_V6:
        return False
    return all(
        other.path is not None or other.port != address.port or ":" in other.host
        for other in others
    )
