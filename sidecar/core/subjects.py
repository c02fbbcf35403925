"""Subjects that failures are counted against: a network, an account, or an account from a network.

A subject is a string: ``203.0.113.7``, ``2001:db8:0:1::/64``, ``@9f86d081884c7d65`` (an account) or
``203.0.113.7@9f86d081884c7d65``. An IPv4 address counts by itself, an IPv6 address by its /64, the
network of one subscriber. An account is represented by a short digest of its name, so whatever was
sent as a name, perhaps a password in the wrong field, is neither stored nor shown. Names that
differ only in case, dots or Unicode form share a subject, as they are guesses at the same account.
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
    """Return the network that a client address counts as; empty if it is not an IP address."""
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
    """Return the digest that represents an account in a subject."""
    folded = normalize("NFKC", account).casefold().replace(".", "")
    return sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_CHARS]


def subject_of(network: str, account: str | None) -> str:
    """Return the subject for a network, an account, or (if both are given) the pair."""
    return f"{network}@{key_of(account)}" if account else network


def split_subject(subject: str) -> tuple[str, str]:
    """Return the network and the account's key of a subject; empty if it has none."""
    network, _, key = subject.partition("@")
    return network, key
