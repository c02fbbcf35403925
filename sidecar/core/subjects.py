"""Whom a failure is counted against: a network, an account, or an account from one network.

A subject is a text: ``203.0.113.7``, ``2001:db8:0:1::/64``, ``@9f86d081884c7d65`` (an account) or
``203.0.113.7@9f86d081884c7d65``. An IPv4 address stands for itself, an IPv6 address for its /64,
which is what one subscriber has. An account stands there by a digest of its name: whatever was
sent as a name, a password in the wrong field perhaps, is neither kept nor shown, and is short.
Names that differ in case, dots or Unicode form alone are one: they are tries at the same account.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final
from unicodedata import normalize

_KEY_CHARS: Final = 16


@lru_cache(maxsize=10_000)
def network_of(client: str) -> str:
    """Return what a client address is counted as; empty for what is no IP address (``unix:``)."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, 64), strict=False))


def key_of(account: str) -> str:
    """Return what stands for an account's name in a subject."""
    folded = normalize("NFKC", account).casefold().replace(".", "")
    return sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_CHARS]


def subject_of(network: str, account: str | None) -> str:
    """Return the subject for a network, an account or (both given) the account from there."""
    return f"{network}@{key_of(account)}" if account else network


def split_subject(subject: str) -> tuple[str, str]:
    """Return the network and the account's key; empty where the subject has none."""
    network, _, key = subject.partition("@")
    return network, key
