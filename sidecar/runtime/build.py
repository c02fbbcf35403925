"""How a configuration becomes ``Rules``: what requests are judged and forwarded by.

Nothing here opens a connection. TLS files are read here, so that a certificate that does not load
is refused before anything changes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidecar.auth.assertion import AssertionSigner
from sidecar.auth.issuers import FetchedKeys, FileKeys, IssuerKeys, Issuers
from sidecar.auth.jwt_verifier import JwtVerifier
from sidecar.config import settings as configured
from sidecar.core.account_claims import AccountClaim
from sidecar.core.cors import CorsPolicy
from sidecar.core.credentials import CredentialRules
from sidecar.core.errors import UsageError
from sidecar.core.headers import HeaderRules, PasswordFields
from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import Key
from sidecar.core.model import Form
from sidecar.core.patterns import compile_pattern
from sidecar.core.policy import Account
from sidecar.core.referers import RefererRules
from sidecar.core.request_heads import IdentityLines, RequestHeads
from sidecar.core.routes import Route, RouteTable
from sidecar.core.signed_tokens import SignedTokens, TrustedIssuer
from sidecar.core.trusted_proxies import TrustedProxies
from sidecar.core.unclaimed_jwts import Claimants
from sidecar.proxy.answers import Challenges
from sidecar.proxy.header_cache import HeaderCache
from sidecar.proxy.rules import AssertionLines, Rules, UpstreamHandle
from sidecar.proxy.tracing import Traces
from sidecar.wire.destination import Destination
from sidecar.wire.dialing import Dialer
from sidecar.wire.pool import Pool
from sidecar.wire.relay import Timeouts
from sidecar.wire.requests import RequestLimits
from sidecar.wire.tls import listening_context, upstream_context

_NO_POOLS: Final[Mapping[str, Pool]] = MappingProxyType({})


def build_rules(
    settings: configured.Settings,
    loop: asyncio.AbstractEventLoop,
    kept: Mapping[str, Pool] = _NO_POOLS,
    jwt: JwtVerifier | None = None,
    dialer: Dialer | None = None,
) -> Rules:
    """Return the rules of a configuration. Raises ``UsageError`` for files that don't load.

    ``kept`` are the pools to keep, by the name of their upstream; the other upstreams get new ones,
    whose connections ``dialer`` opens. ``jwt`` and ``dialer`` are made here if left out.
    """
    dialer = dialer or Dialer()
    named = _query_names(settings)
    credentials = build_credentials(settings)
    is_global = named == settings.credentials.query
    all_credentials = credentials if is_global else build_credentials(settings, named)
    referers = RefererRules(named)
    identity = settings.identity.headers
    assertion = settings.identity.assertion
    injected = [*identity] if assertion is None else [*identity, assertion.header]
    headers = HeaderRules(injected, credentials.headers, credentials.pair)
    handles = {
        name: _build_upstream(
            upstream,
            kept.get(name) or Pool(_build_destination(name, upstream), loop, dialer.open),
            settings.limits,
            headers,
            referers,
        )
        for name, upstream in settings.upstreams.items()
    }
    return Rules(
        routes=build_routes(settings),
        accounts=build_accounts(settings),
        credentials=credentials,
        all_credentials=all_credentials,
        headers=headers,
        upstreams=MappingProxyType(handles),
        challenges=Challenges(settings.credentials.realm, credentials.scheme),
        identity=IdentityLines(identity),
        assertion=_build_assertion(settings),
        jwt=jwt or build_jwt(settings),
        traces=_build_traces(settings.tracing),
        token_prefix=settings.tokens.prefix,
        expiry_notice_seconds=settings.tokens.expiry_notice,
        trusted_proxies=build_trusted_proxies(settings),
        health_path=settings.listen.health_path or "",
    )


def build_trusted_proxies(settings: configured.Settings) -> TrustedProxies:
    """Return who is believed about earlier hops."""
    listed = settings.trusted_proxies
    return TrustedProxies((one for one in listed if one != "unix"), "unix" in listed)


def build_credentials(
    settings: configured.Settings, query: tuple[str, ...] | None = None
) -> CredentialRules:
    """Return where credentials are looked for; ``query`` replaces the names of parameters."""
    places = settings.credentials
    fields = places.password_fields
    return CredentialRules(
        places.headers,
        places.query if query is None else query,
        places.schemes,
        None if fields is None else PasswordFields(fields.account, fields.password),
        settings.tokens.prefix,
    )


def _build_traces(tracing: configured.TracingSettings) -> Traces:
    return Traces(begins=tracing.begin, share=tracing.sample, exports=tracing.endpoint is not None)


def build_jwt(settings: configured.Settings, old: JwtVerifier | None = None) -> JwtVerifier:
    """Return the verifier of JWTs, not started. Raises ``UsageError`` for unusable keys.

    Keys of issuers that ``old`` has already fetched are kept.
    """
    jwt = settings.jwt
    try:
        sources = {
            issuer.issuer: _build_source(issuer, {} if old is None else old.issuers.sources)
            for issuer in jwt.trusted_issuers
        }
        keys = own_keys(settings)
        tokens = SignedTokens(
            jwt.issuer,
            jwt.audience,
            jwt.leeway,
            keys,
            [_trust(issuer, sources[issuer.issuer]) for issuer in jwt.trusted_issuers],
        )
    except ValueError as error:
        raise UsageError(f"jwt: {error}") from None
    return JwtVerifier(Issuers(tokens, sources), export_key_set(keys))


def build_claimants(settings: configured.Settings) -> Claimants:
    """Return the keys and issuers whose JWTs are judged by them, and so are not imported."""
    jwt = settings.jwt
    trusted = (issuer.issuer for issuer in jwt.trusted_issuers)
    return Claimants(jwt.issuer, (key.id for key in jwt.keys), trusted)


def own_keys(settings: configured.Settings) -> tuple[Key, ...]:
    """Return the sidecar's own keys; the first one signs. Raises ``ValueError``."""
    return tuple(load_key(key.id, key.algorithm, key.private_key) for key in settings.jwt.keys)


def _build_source(
    issuer: configured.TrustedIssuerSettings, old: Mapping[str, IssuerKeys]
) -> IssuerKeys:
    source: FetchedKeys | FileKeys
    if issuer.jwks_url is not None:
        source = FetchedKeys(issuer.issuer, issuer.jwks_url, issuer.algorithms)
    else:
        assert issuer.jwks_file is not None  # the configuration has one of the two
        source = FileKeys(issuer.issuer, issuer.jwks_file, issuer.algorithms)
    before = old.get(issuer.issuer)
    is_same = isinstance(before, FetchedKeys | FileKeys) and before.origin == source.origin
    return before if before is not None and is_same else source


def _trust(issuer: configured.TrustedIssuerSettings, keys: IssuerKeys) -> TrustedIssuer:
    claim = AccountClaim(issuer.account_claim, issuer.accounts)
    return TrustedIssuer(issuer.issuer, issuer.audience, issuer.algorithms, keys, claim)


def _build_assertion(settings: configured.Settings) -> AssertionLines | None:
    assertion = settings.identity.assertion
    if assertion is None:
        return None
    try:
        keys = own_keys(settings)
        if not keys:
            raise ValueError("it needs a key in jwt.keys to sign with")
        signer = AssertionSigner(settings.jwt.issuer, keys[0], assertion.lifetime)
    except ValueError as error:
        raise UsageError(f"identity.assertion: {error}") from None
    return AssertionLines(assertion.header, signer)


def build_accounts(settings: configured.Settings) -> Mapping[str, Account]:
    """Return the accounts as policy knows them, by name."""
    return settings.known_accounts


def build_listening_tls(settings: configured.Settings) -> ssl.SSLContext | None:
    """Return the TLS context of the proxy's address. Raises ``UsageError`` for unusable files."""
    tls = settings.listen.tls
    if tls is None:
        return None
    try:
        return listening_context(tls.certificate, tls.private_key, tls.client_ca)
    except OSError as error:
        raise UsageError(f"listen.tls: {error.strerror or error}") from None


def build_limits(settings: configured.Settings) -> RequestLimits:
    """Return the size limits of a request."""
    limits = settings.limits
    return RequestLimits(limits.headers, limits.header_bytes, limits.url_bytes, limits.body_bytes)


def build_header_cache(settings: configured.Settings) -> HeaderCache:
    """Return an empty cache of header sections."""
    places = settings.credentials
    names = [*places.headers]
    if places.password_fields is not None:
        names.append(places.password_fields.password)
    return HeaderCache(build_limits(settings), names, places.schemes)


def shortest_timeout_seconds(settings: configured.Settings) -> float:
    """Return the shortest time-out of any connection."""
    limits = settings.limits
    of_upstreams = [
        timeout
        for upstream in settings.upstreams.values()
        for timeout in (upstream.response_timeout, upstream.idle_timeout)
    ]
    return min(limits.header_timeout, limits.idle_timeout, limits.body_timeout, *of_upstreams)


def reaches_alike(one: configured.UpstreamSettings, other: configured.UpstreamSettings) -> bool:
    """Return whether connections made for one upstream can be used for the other."""
    return (
        one.url == other.url
        and one.tls == other.tls
        and one.connect_timeout == other.connect_timeout
        and one.max_connections == other.max_connections
        and one.max_age == other.max_age
    )


def build_routes(settings: configured.Settings) -> RouteTable:
    """Return the routes in their order. Those with the same names for credentials share rules."""
    rules: dict[tuple[str, ...], CredentialRules] = {}
    routes = []
    for route in settings.routes:
        names = route.credentials.query
        own = None
        if isinstance(names, tuple):
            own = rules.get(names) or rules.setdefault(names, build_credentials(settings, names))
        routes.append(_build_route(route, own))
    return RouteTable(routes)


def _query_names(settings: configured.Settings) -> tuple[str, ...]:
    """Return the names of all parameters that hold a credential on some route."""
    names = dict.fromkeys(settings.credentials.query)
    for route in settings.routes:
        if isinstance(route.credentials.query, tuple):
            names.update(dict.fromkeys(route.credentials.query))
    return tuple(names)


def _build_route(route: configured.RouteSettings, own: CredentialRules | None) -> Route:
    accepted = route.credentials
    forms = {form for form in Form if getattr(accepted, form) is not False}
    return Route(
        pattern=compile_pattern(route.path),
        methods=frozenset(route.methods) or None,
        upstream=route.upstream,
        forms=frozenset(forms),
        accounts=frozenset(name for name in route.accounts if name[:1] != "@")
        if route.accounts
        else None,
        groups=frozenset(name[1:] for name in route.accounts if name[:1] == "@"),
        public=route.public or accepted.optional,
        name=route.path,
        encoded_slash=route.encoded_slash,
        identifies=accepted.optional or not route.public,
        ignores_bad=accepted.optional and route.bad_credentials == "ignore",
        credentials=own,
        cors=None if route.cors is None else _build_cors(route.cors, route.methods),
    )


def _build_cors(cors: configured.CorsSettings, methods: tuple[str, ...]) -> CorsPolicy:
    return CorsPolicy(
        cors.origins,
        methods=cors.methods or methods or None,
        headers=cors.headers or None,
        exposed=cors.expose_headers,
        has_credentials=cors.credentials,
        max_age_seconds=cors.max_age,
        answers=cors.preflight == "answer",
    )


def _build_upstream(
    upstream: configured.UpstreamSettings,
    pool: Pool,
    limits: configured.LimitsSettings,
    headers: HeaderRules,
    referers: RefererRules,
) -> UpstreamHandle:
    authority = upstream.url.authority.encode()
    return UpstreamHandle(
        pool=pool,
        heads=RequestHeads(
            headers,
            referers.redact,
            authority=None if upstream.preserve_host else authority,
            keeps_credentials=upstream.forward_credentials,
            adds_via=upstream.via,
        ),
        authority=authority,
        timeouts=Timeouts(
            response_seconds=upstream.response_timeout,
            idle_seconds=upstream.idle_timeout,
            body_seconds=limits.body_timeout,
            least_body_bytes=limits.min_rate,
        ),
        forwards_credentials=upstream.forward_credentials,
    )


def _build_destination(name: str, upstream: configured.UpstreamSettings) -> Destination:
    address = upstream.url.address
    return Destination(
        name=name,
        host=address.host or "localhost",
        port=address.port,
        unix_path=address.path,
        tls=_upstream_tls(name, upstream),
        connect_timeout_seconds=upstream.connect_timeout,
        max_connections=upstream.max_connections,
        max_age_seconds=upstream.max_age,
        server_name=None if upstream.tls is None else upstream.tls.server_name,
    )


def _upstream_tls(name: str, upstream: configured.UpstreamSettings) -> ssl.SSLContext | None:
    if not upstream.url.is_tls:
        return None
    tls = upstream.tls or configured.UpstreamTlsSettings()
    try:
        return upstream_context(tls.ca, tls.certificate, tls.private_key, is_verified=tls.verify)
    except OSError as error:
        raise UsageError(f"upstreams.{name}.tls: {error.strerror or error}") from None
