"""What the file leaves open to others: listeners, networks, passwords and files."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sidecar.config.diagnostics import Diagnostic, Rejected
from sidecar.config.document import Position, YamlNode
from sidecar.config.endpoints import SocketAddress, parse_address
from sidecar.config.substitution import Substituted

EXAMPLE_HASHES: Final = frozenset(
    {
        "$argon2id$v=19$m=19456,t=2,p=1$rL6147Su2yMYjtk0QQ13pQ"
        "$qAwZlJ3a3G/HH4kYv0VW7mRxOIOjgKYqZI8CbUfP0wk"
    }
)
"""Hashes in the shipped files, of passwords that stand beside them."""

_SHORTEST_PREFIX: Final = {4: 8, 6: 16}
"""No single network has a shorter one, except for the private addresses of IPv6."""
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_PRIVATE: Final = ipaddress.IPv6Network("fc00::/7")
_PASSWORD_IN_URL: Final = re.compile(r"//[^/@]*:[^/@]+@|[?&](?:sentinel_)?password=[^&]")
_FILE_EXPRESSION: Final = re.compile(r"\$\{file:([^}\0]+)\}")
_MOUNTED_SECRETS: Final = ("/run/secrets/", "/var/run/secrets/")

Place = tuple[Position, str]
"""Where a secret stands in the file, and the path of its key."""


def warn_of_exposure(
    root: YamlNode, path: Path, environ: Mapping[str, str] = os.environ
) -> Iterator[Diagnostic]:
    """Yield the warnings about a valid file at ``path``; reads the permissions of files."""
    yield from _warn_of_listeners(root)
    yield from _warn_of_trusted_proxies(root)
    yield from _warn_of_unverified_upstreams(root)
    yield from _warn_of_example_passwords(root)
    if "KUBERNETES_SERVICE_HOST" not in environ:  # nobody else lives in a pod
        yield from _warn_of_readable_files(root, path)


def _warn_of_listeners(root: YamlNode) -> Iterator[Diagnostic]:
    for section, what in (
        ("portal", "passwords and new tokens cross the network in plain HTTP"),
        ("operations", "anybody who reaches this machine can read metrics and try credentials"),
    ):
        node = root.at(section, "address")
        for address in [] if node is None else [*node.items()] or [node]:
            if _is_open(address):
                yield Diagnostic(
                    *address.position,
                    f"{section}.address: this is every address of the machine, and {what}; listen "
                    "on 127.0.0.1, with a proxy for HTTPS in front if others need it",
                )


def _is_open(node: YamlNode) -> bool:
    try:
        address = parse_address(node.value)
    except Rejected:
        return False
    return address.path is None and _is_public(address)


def _is_public(address: SocketAddress) -> bool:
    """Tell whether an address is all of the machine's, or one of the Internet."""
    try:
        ip = ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    ip = mapped or ip
    return ip.is_unspecified or ip.is_global


def _warn_of_trusted_proxies(root: YamlNode) -> Iterator[Diagnostic]:
    section = root.at("trusted_proxies")
    for index, node in enumerate(section.items() if section is not None else []):
        try:
            network = ipaddress.ip_network(str(node.value))
        except ValueError:
            continue
        if _is_wide(network):
            yield Diagnostic(
                *node.position,
                f"trusted_proxies[{index}]: every caller in this network can claim any address, "
                "which defeats bans and falsifies the log; name only your proxies, such as "
                "10.1.2.3 or 10.1.0.0/16",
            )


def _is_wide(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return network.prefixlen < _SHORTEST_PREFIX[4]
    if network.subnet_of(_MAPPED):
        return network.prefixlen - _MAPPED.prefixlen < _SHORTEST_PREFIX[4]
    return network.prefixlen < _SHORTEST_PREFIX[6] and not network.subnet_of(_PRIVATE)


def _warn_of_unverified_upstreams(root: YamlNode) -> Iterator[Diagnostic]:
    section = root.at("upstreams")
    for name, upstream in (section.entries() if section is not None else {}).items():
        tls = upstream.at("tls")
        verify = tls.at("verify") if tls is not None else None
        if tls is not None and verify is not None and verify.value in (False, "false"):
            yield Diagnostic(
                *tls.keys["verify"],
                f"upstreams.{name}.tls.verify: the upstream's certificate is not verified, so "
                "anybody on the way can read and change everything; set tls.ca to its authority "
                "instead",
            )


def _warn_of_example_passwords(root: YamlNode) -> Iterator[Diagnostic]:
    section = root.at("accounts")
    for name, account in (section.entries() if section is not None else {}).items():
        node = account.at("password_hash")
        if node is not None and node.value in EXAMPLE_HASHES:
            yield Diagnostic(
                *account.keys["password_hash"],
                f"accounts.{name}.password_hash: this is the example's, whose password is in the "
                "documentation; make your own with `sidecar account hash-password`",
            )


# Files that hold secrets.


def _warn_of_readable_files(root: YamlNode, path: Path) -> Iterator[Diagnostic]:
    if _is_open_to_all(path, stat.S_IWOTH):
        text = "every user of this machine can change this file; run chmod o-w on it"
        yield Diagnostic(1, 1, text)
    own: Place | None = None
    for node, place in _secrets_in(root):
        if not isinstance(node.value, Substituted):
            own = own or place
            continue
        for named in _FILE_EXPRESSION.findall(node.value.expression):
            yield from _warn_of_file(path.parent / named, place)
    if own is not None and _is_open_to_all(path, stat.S_IROTH):
        text = "the file holds this secret, and every user of this machine can read it; run chmod "
        yield Diagnostic(*own[0], f"{own[1]}: {text}o-r on it, or use ${{file:...}}")
    for node, place in _secret_files_in(root):
        yield from _warn_of_file(path.parent / str(node.value), place)


def _warn_of_file(file: Path, place: Place) -> Iterator[Diagnostic]:
    if _is_open_to_all(file, stat.S_IROTH):
        text = f"every user of this machine can read {file}; run chmod o-r on it"
        yield Diagnostic(*place[0], f"{place[1]}: {text}")


def _secrets_in(root: YamlNode) -> Iterator[tuple[YamlNode, Place]]:
    """Yield the values that are secret, each with the position of its key.

    A password's hash is none: it is worth protecting, and still no key to anything.
    """
    url = root.at("store", "url")
    if url is not None and _PASSWORD_IN_URL.search(str(url.value)):
        yield url, _place(root.at("store"), "url", "store")
    keys = root.at("jwt", "keys")
    for index, key in enumerate(keys.items() if keys is not None else []):
        if (secret := key.at("private_key")) is not None:
            yield secret, _place(key, "private_key", f"jwt.keys[{index}]")
    headers = root.at("tracing", "headers")
    for name, value in (headers.entries() if headers is not None else {}).items():
        yield value, _place(headers, name, "tracing.headers")


def _secret_files_in(root: YamlNode) -> Iterator[tuple[YamlNode, Place]]:
    sections = [(root.at("listen", "tls"), "listen.tls")]
    upstreams = root.at("upstreams")
    for name, upstream in (upstreams.entries() if upstreams is not None else {}).items():
        sections.append((upstream.at("tls"), f"upstreams.{name}.tls"))
    for section, path in sections:
        node = section.at("private_key") if section is not None else None
        if node is not None:
            yield node, _place(section, "private_key", path)
    issuers = root.at("jwt", "trusted_issuers")
    for index, issuer in enumerate(issuers.items() if issuers is not None else []):
        algorithms, file = issuer.at("algorithms"), issuer.at("jwks_file")
        listed = [item.value for item in algorithms.items()] if algorithms is not None else []
        if file is not None and "HS256" in listed:
            yield file, _place(issuer, "jwks_file", f"jwt.trusted_issuers[{index}]")


def _place(section: YamlNode | None, key: str, path: str) -> Place:
    assert section is not None, "the value was found in it"
    return section.keys[key], f"{path}.{key}"


def _is_open_to_all(file: Path, permission: int) -> bool:
    """Tell whether every user has a permission for a file, and for the directories above it."""
    try:
        real = file.resolve(strict=True)
        if not file.is_file() or str(file).startswith(_MOUNTED_SECRETS):
            return False
        if not real.stat().st_mode & permission:
            return False
        return all(above.stat().st_mode & stat.S_IXOTH for above in real.parents)
    except (OSError, ValueError, RuntimeError):
        return False
