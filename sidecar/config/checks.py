"""Checks that span several keys of the file: references by name, header names, addresses.

They work on the tree instead of the typed settings, so they find their mistakes even in a file that
has others. Whatever a check can't interpret is left to the model to report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

from sidecar.config.diagnostics import Diagnostic, Rejected, near_miss, shown
from sidecar.config.document import Position, YamlNode
from sidecar.config.endpoints import SocketAddress, parse_address, parse_upstream_url
from sidecar.config.error_messages import key_path
from sidecar.config.header_names import canonical
from sidecar.config.settings import (
    CredentialsSettings,
    IdentitySettings,
    ListenSettings,
    OperationsSettings,
    PasswordFieldsSettings,
    PortalSettings,
)
from sidecar.core.policy import Account

_NO_ACCOUNTS: Final[Mapping[str, Account]] = MappingProxyType({})
_DECLARE: Final = {
    "account": "declare it under accounts, or correct the name",
    "upstream": "declare it under upstreams, or correct the name",
    "group": "name it in the groups of an account, or correct it",
}


def check_agreement(
    root: YamlNode, of_files: Mapping[str, Account] = _NO_ACCOUNTS
) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each conflict between keys, in no particular order.

    ``of_files`` are the accounts that the files of ``accounts_from`` hold.
    """
    yield from _check_routes(root, of_files)
    yield from _check_upstreams(root)
    yield from _check_identity_headers(root)
    yield from _check_password_fields(root)
    yield from _check_assertion(root)
    yield from _check_issuers(root)
    yield from _check_addresses(root)
    yield from _check_proxy_protocol(root)
    yield from _check_tracing(root)


def _entries(root: YamlNode, *steps: str) -> dict[str, YamlNode]:
    node = root.at(*steps)
    return node.entries() if node is not None else {}


def _items(node: YamlNode | None) -> list[YamlNode]:
    return node.items() if node is not None else []


def _is_true(node: YamlNode | None) -> bool:
    return node is not None and (node.value is True or node.text() == "true")


def _check_routes(root: YamlNode, of_files: Mapping[str, Account]) -> Iterator[Diagnostic]:
    upstreams, accounts = _entries(root, "upstreams"), {*_entries(root, "accounts"), *of_files}
    groups = _groups(root, of_files)
    for index, route in enumerate(_items(root.at("routes"))):
        path = f"routes[{index}]"
        yield from _check_upstream_of(route, path, list(upstreams))
        for number, name in enumerate(_items(route.at("accounts"))):
            where = f"{path}.accounts[{number}]"
            if (name.text() or "").startswith("@"):
                yield from _dangling(name, where, "group", groups)
            else:
                yield from _dangling(name, where, "account", accounts)
        yield from _check_who_passes(route, path)
        yield from _check_cors(route.at("cors"), f"{path}.cors")


def _check_who_passes(route: YamlNode, path: str) -> Iterator[Diagnostic]:
    """Find keys that say nothing on a route that lets everyone pass, or on one that does not."""
    is_optional = _is_optional(route.at("credentials"))
    if "accounts" in route.keys and is_optional:
        text = f"{path}.accounts: optional credentials let everyone pass; remove one of the two"
        yield Diagnostic(*route.keys["accounts"], text)
    elif "accounts" in route.keys and _is_true(route.at("public")):
        text = f"{path}.accounts: a public route lets everyone pass; remove accounts, or public"
        yield Diagnostic(*route.keys["accounts"], text)
    bad = route.at("bad_credentials")
    if bad is not None and bad.text() == "ignore" and not is_optional:
        text = f"{path}.bad_credentials: this needs `credentials: optional`; add it, or remove this"
        yield Diagnostic(*route.keys["bad_credentials"], text)


def _check_cors(cors: YamlNode | None, path: str) -> Iterator[Diagnostic]:
    """Find any origin beside credentials, which browsers refuse (the Fetch standard)."""
    if cors is None or not _is_true(cors.at("credentials")):
        return
    for number, origin in enumerate(_items(cors.at("origins"))):
        if origin.text() == "*":
            text = (
                f"{path}.origins[{number}]: browsers refuse * together with credentials; name the "
                "origins, or remove credentials"
            )
            yield Diagnostic(*origin.position, text)


def _is_optional(credentials: YamlNode | None) -> bool:
    if credentials is None:
        return False
    return credentials.text() == "optional" or _is_true(credentials.at("optional"))


def _check_upstream_of(route: YamlNode, path: str, names: list[str]) -> Iterator[Diagnostic]:
    named = route.at("upstream")
    if named is not None:
        yield from _dangling(named, f"{path}.upstream", "upstream", names)
    elif len(names) > 1 and isinstance(route.value, dict):
        listed = ", ".join(names)
        yield Diagnostic(
            *route.position,
            f"{path}: with {len(names)} upstreams, a route must name one; set upstream to one of "
            f"{listed}",
        )


def _groups(root: YamlNode, of_files: Mapping[str, Account]) -> set[str]:
    """Return every group that an account is in, as a route names it."""
    listed = {group for account in of_files.values() for group in account.groups}
    for account in _entries(root, "accounts").values():
        listed.update(text for item in _items(account.at("groups")) if (text := item.text()))
    return {f"@{group}" for group in listed}


def _dangling(node: YamlNode, path: str, kind: str, names: Collection[str]) -> Iterator[Diagnostic]:
    name = node.text()
    if name is None or name in names:
        return
    meant = near_miss(name, names)
    advice = f"did you mean {meant}?" if meant else _DECLARE[kind]
    yield Diagnostic(*node.position, f"{path}: there is no {kind} {shown(name)}; {advice}")


def _check_upstreams(root: YamlNode) -> Iterator[Diagnostic]:
    for name, upstream in _entries(root, "upstreams").items():
        tls, path = upstream.at("tls"), f"upstreams.{name}.tls"
        if tls is None or not isinstance(tls.value, dict):
            continue
        if not _is_https(upstream.at("url")):
            text = f"{path}: the url of this upstream is not https://; change it, or remove tls"
            yield Diagnostic(*upstream.keys["tls"], text)
        for key, other in (("certificate", "private_key"), ("private_key", "certificate")):
            if key in tls.keys and other not in tls.keys:
                yield Diagnostic(*tls.keys[key], f"{path}.{key}: {other} is missing; add it")


def _is_https(url: YamlNode | None) -> bool:
    """Tell whether a URL is ``https://``; an invalid one, reported elsewhere, passes."""
    try:
        return url is None or parse_upstream_url(url.value).is_tls
    except Rejected:
        return True


def _check_identity_headers(root: YamlNode) -> Iterator[Diagnostic]:
    """Find names that an upstream may confuse (``X_Account``, ``X-Account``)."""
    taken = {
        canonical(name): f"{name} in credentials.headers" for name in _credential_headers(root)
    }
    taken |= {canonical(name): f"{name} in {path}" for path, name, _ in _password_fields(root)}
    headers = root.at("identity", "headers")
    places = headers.keys if headers is not None else {}
    named = [(name, f"identity.headers.{name}", position) for name, position in places.items()]
    assertion = root.at("identity", "assertion", "header")
    if assertion is not None and (text := assertion.text()) is not None:
        named.append((text, "identity.assertion.header", assertion.position))
        if headers is None:
            taken |= {
                canonical(name): f"{name} in identity.headers"
                for name in IdentitySettings().headers
            }
    for name, path, position in named:
        owner = taken.get(canonical(name))
        if owner is not None:
            text = f"{path}: an upstream may confuse this with {owner}; choose another name"
            yield Diagnostic(*position, text)
        taken.setdefault(canonical(name), f"{name} in {path.rpartition('.')[0]}")


def _check_password_fields(root: YamlNode) -> Iterator[Diagnostic]:
    """Find a field of the pair that another place for credentials, or its twin, has already."""
    taken = {
        canonical(name): f"{name} in credentials.headers" for name in _credential_headers(root)
    }
    for path, name, position in _password_fields(root):
        owner = taken.setdefault(canonical(name), f"{name} in {path}")
        if owner != f"{name} in {path}":
            at = position or root.position
            yield Diagnostic(
                *at,
                f"{path}: {name} is the same as {owner}; rename one, or set "
                "credentials.password_fields to null",
            )


def _password_fields(root: YamlNode) -> list[tuple[str, str, Position | None]]:
    """Return path, name and position of the two fields, or nothing if they are not read."""
    node = root.at("credentials", "password_fields")
    if node is not None and not node.keys:
        return []
    fields = []
    for key, name in PasswordFieldsSettings().model_dump().items():
        given = root.at("credentials", "password_fields", key)
        text = name if given is None else given.text()
        if text is not None:
            position = None if given is None else given.position
            fields.append((f"credentials.password_fields.{key}", text, position))
    return fields


def _credential_headers(root: YamlNode) -> list[str]:
    node = root.at("credentials", "headers")
    if node is None:
        return list(CredentialsSettings().headers)
    return [text for item in node.items() if (text := item.text()) is not None]


def _check_assertion(root: YamlNode) -> Iterator[Diagnostic]:
    section = root.at("identity")
    if section is None or "assertion" not in section.keys:
        return
    first = root.at("jwt", "keys", 0)
    if first is not None and _text_at(first, "algorithm") != "HS256":
        return
    why = "needs a public key to verify it" if first is not None else "needs a key to sign it"
    advice = "put an asymmetric key first in jwt.keys"
    yield Diagnostic(
        *section.keys["assertion"], f"identity.assertion: an assertion {why}; {advice}"
    )


def _check_issuers(root: YamlNode) -> Iterator[Diagnostic]:
    own = _text_at(root, "jwt", "issuer") or "sidecar"
    seen = {own: "jwt.issuer"}
    for index, issuer in enumerate(_items(root.at("jwt", "trusted_issuers"))):
        path = f"jwt.trusted_issuers[{index}]"
        node = issuer.at("issuer")
        name = node.text() if node is not None else None
        if node is not None and name is not None:
            if name in seen:
                text = f"{path}.issuer: {seen[name]} has the same value; change one of them"
                yield Diagnostic(*node.position, text)
            seen.setdefault(name, f"{path}.issuer")
        sources = [key for key in ("jwks_url", "jwks_file") if key in issuer.keys]
        if isinstance(issuer.value, dict) and len(sources) != 1:
            how = "has both jwks_url and jwks_file" if sources else "has no source of keys"
            text = f"{path}: this issuer {how}; set one of jwks_url and jwks_file"
            yield Diagnostic(*issuer.position, text)
        section = issuer.at("accounts")
        if section is not None:
            yield from _check_claimed_accounts(section, index, _entries(root, "accounts"))


def _check_claimed_accounts(
    section: YamlNode, index: int, declared: dict[str, YamlNode]
) -> Iterator[Diagnostic]:
    """Find accounts that are not declared, and values that differ in case alone."""
    seen: dict[str, tuple[str, str | None]] = {}
    for claimed, node in section.entries().items():
        key = key_path(["jwt", "trusted_issuers", index, "accounts", claimed])
        account = node.text()
        if account not in declared:
            yield from _dangling(node, key, "account", list(declared))
        other, others_account = seen.setdefault(claimed.casefold(), (claimed, account))
        if account != others_account:
            text = f"{key}: {shown(other)} is another account, and differs in case alone; keep one"
            yield Diagnostic(*section.keys[claimed], text)


def _check_tracing(root: YamlNode) -> Iterator[Diagnostic]:
    section = root.at("tracing")
    if section is None or _text_at(section, "endpoint") is None or _has_opentelemetry():
        return
    text = "tracing.endpoint: OpenTelemetry is missing; run pip install 'auth-sidecar[otel]'"
    yield Diagnostic(*section.keys["endpoint"], text)


def _has_opentelemetry() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False


def _text_at(root: YamlNode, *steps: str | int) -> str | None:
    node = root.at(*steps)
    return node.text() if node is not None else None


def _check_addresses(root: YamlNode) -> Iterator[Diagnostic]:
    seen: dict[SocketAddress, tuple[str, YamlNode | None]] = {}
    for key, address, written in _addresses(root):
        if address.path is None and address.port == 0:
            continue
        if address in seen:
            other, written_there = seen[address]
            at = written or written_there or root.at(key.partition(".")[0]) or root
            first, second = (other, key) if at is written_there else (key, other)
            choice = "port" if address.path is None else "path"
            text = f"{first}: {second} is {address} too; choose another {choice}"
            yield Diagnostic(*at.position, text)
        seen.setdefault(address, (key, written))


def _check_proxy_protocol(root: YamlNode) -> Iterator[Diagnostic]:
    switch = root.at("listen", "proxy_protocol")
    if _is_true(switch) and not _items(root.at("trusted_proxies")):
        assert switch is not None
        text = (
            "listen.proxy_protocol: nobody may send a PROXY header, so all connections would be "
            "refused; name the balancers in trusted_proxies"
        )
        yield Diagnostic(*switch.position, text)


def _addresses(root: YamlNode) -> Iterator[tuple[str, SocketAddress, YamlNode | None]]:
    """Yield every address that is listened on, with its key, and its node if it is in the file."""
    for section, defaults, is_on in (
        ("listen", ListenSettings().address, True),
        ("portal", (PortalSettings().address,), "portal" in root.keys),
        ("operations", (OperationsSettings().address,), True),
    ):
        node, key = root.at(section), f"{section}.address"
        if not is_on or (node is not None and not isinstance(node.value, dict)):
            continue
        written = root.at(section, "address")
        if written is None:
            yield from ((key, address, None) for address in defaults)
            continue
        listed = written.items() if section == "listen" else []
        places = [(f"{key}[{number}]", item) for number, item in enumerate(listed)]
        for name, item in places or [(key, written)]:
            address = _address_of(item)
            if address is not None:
                yield name, address, item


def _address_of(node: YamlNode) -> SocketAddress | None:
    try:
        return parse_address(node.value)
    except Rejected:
        return None
