"""What two places of the file must agree on: names that are used, headers, addresses.

The checks look at the tree and not at the typed settings, so that they find their problems also in
a file that has others. What a check can't make sense of is left to the model to complain about.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from sidecar.config.diagnostics import Diagnostic, Rejected, near_miss, shown
from sidecar.config.document import YamlNode
from sidecar.config.endpoints import SocketAddress, parse_address, parse_upstream_url
from sidecar.config.header_names import canonical
from sidecar.config.settings import (
    CredentialsSettings,
    IdentitySettings,
    ListenSettings,
    OperationsSettings,
    PortalSettings,
)


def check_agreement(root: YamlNode) -> Iterator[Diagnostic]:
    """Yield the problems of places that don't fit together, in no particular order."""
    yield from _check_routes(root)
    yield from _check_upstreams(root)
    yield from _check_identity_headers(root)
    yield from _check_assertion(root)
    yield from _check_issuers(root)
    yield from _check_addresses(root)
    yield from _check_tracing(root)


def _entries(root: YamlNode, *steps: str) -> dict[str, YamlNode]:
    node = root.at(*steps)
    return node.entries() if node is not None else {}


def _items(node: YamlNode | None) -> list[YamlNode]:
    return node.items() if node is not None else []


def _is_true(node: YamlNode | None) -> bool:
    return node is not None and (node.value is True or node.text() == "true")


def _check_routes(root: YamlNode) -> Iterator[Diagnostic]:
    upstreams, accounts = _entries(root, "upstreams"), _entries(root, "accounts")
    for index, route in enumerate(_items(root.at("routes"))):
        path = f"routes[{index}]"
        yield from _check_upstream_of(route, path, list(upstreams))
        for number, name in enumerate(_items(route.at("accounts"))):
            yield from _dangling(name, f"{path}.accounts[{number}]", "account", list(accounts))
        if _is_true(route.at("public")) and "accounts" in route.keys:
            text = (
                f"{path}.accounts: a public route asks nobody who they are; remove one of the two"
            )
            yield Diagnostic(*route.keys["accounts"], text)


def _check_upstream_of(route: YamlNode, path: str, names: list[str]) -> Iterator[Diagnostic]:
    named = route.at("upstream")
    if named is not None:
        yield from _dangling(named, f"{path}.upstream", "upstream", names)
    elif len(names) > 1 and isinstance(route.value, dict):
        listed = ", ".join(names)
        yield Diagnostic(
            *route.position, f"{path}: there are {len(names)} upstreams; name one of {listed}"
        )


def _dangling(node: YamlNode, path: str, kind: str, names: list[str]) -> Iterator[Diagnostic]:
    name = node.text()
    if name is None or name in names:
        return
    meant = near_miss(name, names)
    advice = f"did you mean {meant}?" if meant else f"declare it under {kind}s, or correct the name"
    yield Diagnostic(*node.position, f"{path}: there is no {kind} {shown(name)}; {advice}")


def _check_upstreams(root: YamlNode) -> Iterator[Diagnostic]:
    for name, upstream in _entries(root, "upstreams").items():
        tls, path = upstream.at("tls"), f"upstreams.{name}.tls"
        if tls is None or not isinstance(tls.value, dict):
            continue
        if not _is_https(upstream.at("url")):
            text = f"{path}: the url of this upstream is not https://; remove one of the two"
            yield Diagnostic(*upstream.keys["tls"], text)
        for key, other in (("certificate", "private_key"), ("private_key", "certificate")):
            if key in tls.keys and other not in tls.keys:
                yield Diagnostic(*tls.keys[key], f"{path}.{key}: this needs {other} too; add it")


def _is_https(url: YamlNode | None) -> bool:
    """Tell whether a URL is TLS's, or can't be read, which is another problem."""
    try:
        return url is None or parse_upstream_url(url.value).is_tls
    except Rejected:
        return True


def _check_identity_headers(root: YamlNode) -> Iterator[Diagnostic]:
    """Find names that an upstream may take for one another (``X_Account``, ``X-Account``)."""
    taken = {
        canonical(name): f"credentials.headers has {name}" for name in _credential_headers(root)
    }
    headers = root.at("identity", "headers")
    places = headers.keys if headers is not None else {}
    named = [(name, f"identity.headers.{name}", position) for name, position in places.items()]
    assertion = root.at("identity", "assertion", "header")
    if assertion is not None and (text := assertion.text()) is not None:
        named.append((text, "identity.assertion.header", assertion.position))
        if headers is None:
            taken |= {
                canonical(name): f"identity.headers has {name}"
                for name in IdentitySettings().headers
            }
    for name, path, position in named:
        owner = taken.get(canonical(name))
        if owner is not None:
            text = f"{path}: {owner}, the same header to an upstream; choose another name"
            yield Diagnostic(*position, text)
        taken.setdefault(canonical(name), f"{path.rpartition('.')[0]} has {name}")


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
    why = "is signed with a published key" if first is not None else "needs a key to sign with"
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
                text = f"{path}.issuer: {seen[name]} is the same; keep one of the two"
                yield Diagnostic(*node.position, text)
            seen.setdefault(name, f"{path}.issuer")
        sources = [key for key in ("jwks_url", "jwks_file") if key in issuer.keys]
        if isinstance(issuer.value, dict) and len(sources) != 1:
            how = "has two sources of keys" if sources else "has no source of keys"
            text = f"{path}: this issuer {how}; write either jwks_url or jwks_file"
            yield Diagnostic(*issuer.position, text)


def _check_tracing(root: YamlNode) -> Iterator[Diagnostic]:
    section = root.at("tracing")
    if section is None or _text_at(section, "endpoint") is None or _has_opentelemetry():
        return
    text = "tracing.endpoint: OpenTelemetry is not installed; pip install 'auth-sidecar[otel]'"
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
    seen: dict[SocketAddress, str] = {}
    for section, default, is_on in (
        ("listen", ListenSettings().address, True),
        ("portal", PortalSettings().address, "portal" in root.keys),
        ("operations", OperationsSettings().address, True),
    ):
        node = root.at(section)
        if not is_on or (node is not None and not isinstance(node.value, dict)):
            continue
        written = root.at(section, "address")
        address = default if written is None else _address_of(written)
        if address is None or (address.path is None and address.port == 0):
            continue
        if address in seen:
            position = written.position if written is not None else (node or root).position
            text = f"{section}.address: {seen[address]} listens there; choose another port"
            yield Diagnostic(*position, text)
        seen.setdefault(address, section)


def _address_of(node: YamlNode) -> SocketAddress | None:
    try:
        return parse_address(node.value)
    except Rejected:
        return None
