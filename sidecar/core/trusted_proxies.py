"""Which peers are believed about earlier hops, and who is calling according to them.

The caller is the first hop, seen from here, that isn't a trusted proxy. If the last trusted proxy
doesn't say who called it (``unknown``, a name, nothing that can be read), the caller has no
address. It is then ``unknown``, and treated like a caller on a unix socket: its failures count
against accounts alone. Neither of the alternatives is safe. With the proxy's own address, three
wrong passwords of one caller would ban all. With what stands further left, a caller could choose an
address for itself, or have another one's banned.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from sidecar.core.forwarded import UNIX, Hop, hops_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
"""The client of a request whose caller's address is not known (the word of RFC 7239)."""

MOST_HOPS: Final = 32


class TrustedProxies:
    """The peers whose statements about earlier hops are believed; by default, nobody's are.

    ``trusts_unix``: those of peers on a unix socket are, too.
    """

    __slots__ = ("_networks", "_trusts_unix")

    def __init__(self, networks: Iterable[Network] = (), trusts_unix: bool = False) -> None:
        self._networks: Final = tuple(networks)
        self._trusts_unix: Final = trusts_unix

    def __repr__(self) -> str:
        return f"<TrustedProxies networks={len(self._networks)} unix={self._trusts_unix}>"

    def is_trusted(self, peer: str) -> bool:
        """Return whether to believe what ``peer`` says about earlier hops."""
        if peer == UNIX:
            return self._trusts_unix
        if not self._networks:
            return False
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def walk(self, forwarded_for: tuple[bytes, ...], forwarded: tuple[bytes, ...]) -> list[Hop]:
        """Return what a trusted peer says about the hops before it, the nearest first.

        The last one is the caller: the first that isn't trusted itself, or the farthest of
        ``MOST_HOPS``. Nothing is read beyond it.
        """
        hops = []
        for hop in hops_of(forwarded_for, forwarded):
            hops.append(hop)
            if len(hops) == MOST_HOPS or not self.is_trusted(hop.address):
                break
        return hops

    def caller_of(
        self, peer: str, forwarded_for: tuple[bytes, ...], forwarded: tuple[bytes, ...]
    ) -> str:
        """Return the caller's address, or ``UNKNOWN``; the arguments are what ``peer``, which is
        trusted, sent in the fields of these names.
        """
        hops = self.walk(forwarded_for, forwarded)
        return (hops[-1].address or UNKNOWN) if hops else peer
