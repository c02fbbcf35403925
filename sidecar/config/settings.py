"""What the configuration file can say: every section and key, its default, and what it means.

Attributes have the names of the keys in the file. Durations are seconds and sizes bytes; addresses,
networks and file paths are parsed. The text below each key is what an editor shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from sidecar.config import endpoints, values
from sidecar.config.document import NoValue
from sidecar.core.path_index import PathList
from sidecar.core.patterns import compile_pattern
from sidecar.core.policy import Account

IdentityAttribute = Literal["account", "method", "token_id", "token_name"]
Algorithm = Literal["EdDSA", "ES256", "RS256", "PS256", "HS256"]


def _false_is_off(value: object) -> object:
    return None if value is False else value


def _switched_off_by_null(value: object) -> object:
    """Let ``null`` (or ``false``) switch a section off that has defaults."""
    return None if value is False or isinstance(value, NoValue) else value


def _account_header() -> Mapping[str, IdentityAttribute]:
    return MappingProxyType({"X-Account": "account"})


class Section(BaseModel):
    """A mapping in the file: closed to unknown keys, and frozen once it is read."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class ListenTlsSettings(Section):
    """TLS on the proxy's listening address."""

    certificate: values.FilePath
    """PEM file: the certificate, followed by the intermediate ones."""
    private_key: values.FilePath
    """PEM file: the certificate's private key, without a password."""
    client_ca: values.FilePath | None = None
    """PEM file: callers must show a certificate of one of these authorities (mutual TLS)."""


class ListenSettings(Section):
    """Where callers connect."""

    address: values.ListenAddresses = (endpoints.SocketAddress("0.0.0.0", 2020),)  # noqa: S104
    """`host:port`, `[::1]:port` or `unix:/path`, or a list of them. `[::]:port` takes IPv4 too,
    unless another address of the list does on that port.
    """
    mode: values.SocketMode = 0o660
    """Permissions of unix sockets, those of the portal and the operations listener included: octal,
    in quotes.
    """
    group: values.GroupName | None = None
    """The group of these sockets, by name or number; the process must be a member of it. None: the
    process's own.
    """
    proxy_protocol: values.Switch = False
    """Each connection begins with a PROXY header, version 1 or 2, of one of `trusted_proxies`."""
    health_path: values.PlainPath | None = None
    """A path, such as `/healthz`, that is answered 200 or 503 without a credential, for balancers
    that can ask no other port.
    """
    tls: ListenTlsSettings | None = None
    """Serve HTTPS; left out: plain HTTP."""


class UpstreamTlsSettings(Section):
    """How an `https://` upstream is checked, and what is shown to it."""

    ca: values.FilePath | None = None
    """PEM file of the authorities that may have signed its certificate; default: the system's."""
    certificate: values.FilePath | None = None
    """PEM file of the certificate to show to the upstream (mutual TLS)."""
    private_key: values.FilePath | None = None
    """PEM file of that certificate's private key."""
    verify: values.Switch = True
    """Check its certificate and its name. Turn this off only for an experiment."""
    server_name: values.HostName | None = None
    """The name to ask for (SNI), and to find in its certificate: for a service that is reached by
    its IP address, or by another name; default: the host of `url`.
    """


class UpstreamSettings(Section):
    """A service behind."""

    url: values.ServiceUrl
    """`http://host:port`, `https://host:port` or `unix:/path`."""
    connect_timeout: values.PositiveDuration = 3.0
    """How long opening a connection may take, TLS included."""
    response_timeout: values.PositiveDuration = 60.0
    """How long the upstream may take to send its response head."""
    idle_timeout: values.PositiveDuration = 300.0
    """The longest pause between two pieces of a body or a tunnel."""
    max_connections: values.PositiveCount = 512
    """Open connections, for each worker; when all are in use, requests wait, then get 503. Of 32 or
    more, one account or network gets at most 31 in 32.
    """
    max_age: values.Duration = 300.0
    """Older connections are not reused (minus up to a fifth, at random); 0: any age."""
    preserve_host: values.Switch = True
    """Send the caller's `Host`; off: the host of `url`."""
    forward_credentials: values.Switch = False
    """Leave the caller's credential in the request."""
    via: values.Switch = True
    """Add `Via: 1.1 sidecar`; off: add none, so that an nginx behind compresses its answers."""
    tls: UpstreamTlsSettings | None = None
    """Settings for `https://`; left out: the system's authorities, verified."""


class RouteCredentialsSettings(Section):
    """The credentials of a route, where a list of forms does not say enough."""

    bearer: values.Switch = True
    """Accept tokens in `Authorization`."""
    header: values.Switch = True
    """Accept tokens in the headers of `credentials.headers`."""
    query: values.QueryForm = True
    """Accept tokens in the query; a list names this route's parameters, and leaves others alone."""
    basic: values.Switch = True
    """Accept an account and a password."""
    optional: values.Switch = False
    """Let everyone pass, and send the identity of those who carry a credential."""


class CorsSettings(Section):
    """What pages of other origins may do on a route, and what their browsers are told of it."""

    origins: values.NonEmptyListOf[values.Origin]
    """Their origins: `https://shop.example`, `https://*.shop.example`, `null`, or `*` for any."""
    methods: values.NonEmptyListOf[values.Method] = ()
    """Methods that they may use; left out: those of the route."""
    headers: values.NonEmptyListOf[values.FieldName] = ()
    """Header fields that they may send; left out: any."""
    expose_headers: values.ListOf[values.FieldName] = ()
    """Header fields of answers that they may read, besides those that every page may."""
    credentials: values.Switch = False
    """Let them send cookies and certificates; tokens in header fields need no such leave."""
    max_age: values.Duration = 3600.0
    """How long a browser may remember the answer to a preflight."""
    preflight: Literal["answer", "pass"] = "answer"
    """`answer` preflights here, or let them `pass` to the service without a credential."""


class RouteSettings(Section):
    """A path pattern and who may pass; the first route that matches a request decides."""

    path: values.PatternText
    """`{name}` is one whole segment, `*` any characters in one, a trailing `/**` any rest."""
    methods: values.NonEmptyListOf[values.Method] = ()
    """Methods, in capitals; left out: any."""
    upstream: str = ""
    """Name of the upstream; left out: the only one."""
    credentials: Annotated[RouteCredentialsSettings, values.FORMS_IN_SHORT, values.SHORT_FORMS] = (
        RouteCredentialsSettings()
    )
    """Forms of credential that are accepted, or `optional`: identity if there is one."""
    bad_credentials: Literal["refuse", "ignore"] = "refuse"
    """Where they are optional: `refuse` a bad one, or `ignore` it and send no identity."""
    accounts: values.NonEmptyListOf[str] = ()
    """Accounts that may pass, and groups as `@group`; left out: every account."""
    public: values.Switch = False
    """Let everyone pass, without a credential and without an identity."""
    cors: CorsSettings | None = None
    """Answer preflights, and let pages of other origins read refusals; left out: neither."""
    encoded_slash: values.Switch = False
    """Let `%2F` stand in the path, and forward it as sent, unless it could lead to another rule."""


class PasswordFieldsSettings(Section):
    """The two request headers that hold an account's name and its password."""

    account: values.CredentialHeader = "username"
    """Request header that holds an account's name. Without the other one, it is an ordinary field.
    `password_fields: null`: neither is read.
    """
    password: values.CredentialHeader = "password"  # noqa: S105 - a header's name
    """Request header that holds the password."""


class CredentialsSettings(Section):
    """Where credentials are looked for."""

    realm: values.Text = "listener"
    """The realm of `WWW-Authenticate` challenges."""
    headers: values.ListOf[values.CredentialHeader] = ("access_token", "jwt_token")
    """Request headers that hold a token, besides `Authorization`."""
    query: values.ListOf[values.QueryName] = ("access_token", "token", "jwt_token")
    """Query parameters that hold a token."""
    schemes: values.ListOf[values.AuthorizationScheme] = (
        *("Bearer", "Token", "access_token", "jwt_token"),
        "",
    )
    """Schemes of `Authorization` that precede a token, besides Basic; `""`: a token without a
    scheme is read, too.
    """
    password_fields: Annotated[
        PasswordFieldsSettings | None, BeforeValidator(_switched_off_by_null)
    ] = PasswordFieldsSettings()
    """The headers that hold an account and a password, beside Basic; `null`: none."""


class AccountSettings(Section):
    """Who may call."""

    password_hash: values.PasswordHash | None = Field(default=None, repr=False)
    """Hash of the password, ours or that of an existing system; left out: tokens only."""
    paths: values.NonEmptyListOf[values.PatternText] = ()
    """Path patterns that the account may call; left out: any."""
    max_token_days: values.Count = 0
    """The longest lifetime of a new token, in days; 0: no limit."""
    max_tokens: values.Count = 1000
    """How many live tokens it may have; 0: no limit."""
    groups: values.ListOf[values.AccountGroup] = ()
    """Groups that it is in; a route's `accounts` may name a group as `@group`."""
    disabled: values.Switch = False
    """Refuse the account's password and all its tokens."""

    def named(self, name: str) -> Account:
        """Return the account of this name, as policy knows it."""
        return Account(
            name=name,
            password_hash=self.password_hash,
            paths=PathList(compile_pattern(path) for path in self.paths),
            max_token_days=self.max_token_days,
            max_tokens=self.max_tokens,
            groups=frozenset(self.groups),
            disabled=self.disabled,
        )


class TokensSettings(Section):
    """Access tokens."""

    prefix: values.TokenPrefix = "sct_"
    """What new access tokens begin with, so that a scanner can find a leaked one."""
    expiry_notice: values.Duration = 14 * 86400.0
    """How long before its end a token's responses carry `X-Token-Expires`; 0: never."""


class SigningKeySettings(Section):
    """A key of the sidecar's own JWTs. The algorithm is the key's, whatever a JWT says."""

    id: values.Name
    """The `kid` in JWTs and in the published JWKS."""
    algorithm: Algorithm = "EdDSA"
    """What the key signs with."""
    private_key: str = Field(repr=False)
    """PEM text from `sidecar key generate`, as `${file:...}`; for HS256, 32 bytes or more."""


class TrustedIssuerSettings(Section):
    """Somebody else whose JWTs are accepted."""

    issuer: values.Text
    """The exact `iss` of its JWTs."""
    audience: values.Text
    """The `aud` that its JWTs must name."""
    jwks_url: values.WebUrl | None = Field(default=None, repr=False)
    """Where to fetch its keys. Either this or `jwks_file`."""
    jwks_file: values.FilePath | None = None
    """The JWKS as a file, which may hold a shared HS256 secret."""
    algorithms: values.NonEmptyListOf[Algorithm] = ("RS256", "ES256")
    """Algorithms that its keys may verify; HS256 stands alone, and needs `jwks_file`."""
    account_claim: values.Claim = ("sub",)
    """The claim that names the account, to the letter; a list is a path to a claim within others:
    `[kubernetes.io, serviceaccount, name]`.
    """
    accounts: values.AccountsByClaim | None = None
    """What the claim holds, and which account that is: `{"auth0|5f7c": acme}`. Nothing else passes
    then. Left out: the claim holds the account's name.
    """


class JwtSettings(Section):
    """JWTs: the sidecar's own and those of trusted issuers."""

    issuer: values.Text = "sidecar"
    """The `iss` of the sidecar's own JWTs."""
    audience: values.Text = "listener"
    """The `aud` of the sidecar's own JWTs."""
    leeway: values.Duration = 10.0
    """How far clocks may differ when `exp`, `nbf` and `iat` are checked."""
    keys: values.ListOf[SigningKeySettings] = ()
    """Keys that verify; the first one signs. Left out: no JWT is issued."""
    trusted_issuers: values.ListOf[TrustedIssuerSettings] = ()
    """Foreign issuers."""


class AssertionSettings(Section):
    """A short-lived signed JWT for the upstream, so that it need not trust the network."""

    header: values.IdentityHeader = "X-Account-Assertion"
    """The header that carries it."""
    lifetime: values.PositiveDuration = 60.0
    """How long it is valid."""


class IdentitySettings(Section):
    """What the upstream is told about the caller."""

    headers: values.ByHeader[IdentityAttribute] = Field(default_factory=_account_header)
    """Header name to its content: `account`, `method`, `token_id` or `token_name`."""
    assertion: AssertionSettings | None = None
    """Send a signed assertion too; left out: none. Needs an asymmetric key first in `jwt.keys`."""


class StoreCacheSettings(Section):
    """Tokens that are kept in the process."""

    tokens: values.Count = 100_000
    """How many tokens are cached; 0: none, every request asks Redis."""
    max_age: values.Duration = 60.0
    """How long a cached token is believed without asking again, should Redis fail to report a
    change.
    """


class StoreSettings(Section):
    """Redis, where tokens live."""

    url: values.StoreUrlText = Field(default="embedded", repr=False)
    """`embedded`, `redis://`, `rediss://`, `unix://`, `redis+sentinel://h1:p,h2:p/NAME/0` or `redis+cluster://h1:p,h2:p`."""
    prefix: values.KeyPrefix = "sidecar:"
    """What every key in Redis begins with."""
    cache: StoreCacheSettings = StoreCacheSettings()
    """Tokens that are kept in the process."""
    outage_grace: values.Duration = 30.0
    """How long a token seen before is still accepted while Redis is away; 0: not at all."""


class ThrottleSettings(Section):
    """When failures are answered with 429: by client address, and by account for passwords."""

    failures: values.Count = 10
    """How many failures within `window` lead to a ban; 0: never."""
    window: values.PositiveDuration = 60.0
    """The time over which failures are counted."""
    ban: values.PositiveDuration = 300.0
    """How long the answer is 429 then."""


class LimitsSettings(Section):
    """What a caller may use."""

    connections: values.PositiveCount = 10_000
    """Open client connections, for each worker; more are cut at once. Needs descriptors: with too
    few, callers wait.
    """
    connections_per_address: values.Count = 0
    """How many of these may come from one address (IPv6: one /64 network). 0: no limit of its own.
    """
    headers: values.PositiveCount = 128
    """Header lines of a request; more: 431."""
    header_bytes: values.PositiveSize = 32 * 1024
    """Size of a request's head; more: 431."""
    url_bytes: values.PositiveSize = 16 * 1024
    """Length of a request's target; more: 414."""
    body_bytes: values.Size = 0
    """Size of a request's body; more: 413. 0: no limit."""
    header_timeout: values.PositiveDuration = 10.0
    """How long a request's head may take; longer: 408."""
    idle_timeout: values.PositiveDuration = 75.0
    """How long a connection is kept open between two requests."""
    body_timeout: values.PositiveDuration = 60.0
    """The longest pause in a request's body; longer: 408."""
    min_rate: values.Size = 1024
    """What a caller must send of a body, or take of an answer, each second; 0: any rate will do."""


class PortalSettings(Section):
    """The API-keys page and the token API."""

    address: values.ListenAddress = endpoints.SocketAddress("127.0.0.1", 2021)
    """Where the page and the token API listen."""


class OperationsSettings(Section):
    """Health, readiness, metrics, the decision endpoint and the JWKS."""

    address: values.ListenAddress = endpoints.SocketAddress("127.0.0.1", 2022)
    """Where health, metrics and the decision endpoint listen."""


class DrainSettings(Section):
    """What happens on SIGTERM."""

    delay: values.Duration = 0.0
    """How long readiness fails before accepting stops."""
    timeout: values.Duration = 30.0
    """How long running requests may take to finish."""


class AccessLogSettings(Section):
    """One JSON line for each request."""

    path: values.LogPath = "-"
    """A file, or `-` for standard output."""
    enabled: values.Switch = True
    """Write it."""


class TracingSettings(Section):
    """W3C Trace Context, and the export of spans to OpenTelemetry."""

    begin: values.Switch = True
    """Begin a trace for a request without a valid `traceparent`; off: only pass on callers' own."""
    sample: values.Ratio = 1.0
    """The share of the traces begun here that are marked as sampled, from 0 to 1."""
    endpoint: values.CollectorUrl | None = None
    """Where spans go, by OTLP over HTTP: `http://host:4318/v1/traces`; left out: nowhere."""
    headers: values.SecretHeaders = Field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Headers that the collector needs, such as an `Authorization`."""
    service_name: values.Text = "auth-sidecar"
    """The `service.name` of the spans."""


class Settings(Section):
    """The whole file."""

    listen: ListenSettings = ListenSettings()
    """Where callers connect."""
    upstreams: values.ByName[UpstreamSettings]
    """The services behind, by name."""
    routes: values.NonEmptyListOf[RouteSettings]
    """Which requests are forwarded, and for whom; the first match wins, the rest is 404."""
    credentials: CredentialsSettings = CredentialsSettings()
    """Where credentials are looked for."""
    accounts: values.AccountsByName[AccountSettings] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Who may call, by name."""
    accounts_from: values.ListOf[values.FilePattern] = ()
    """Files with more accounts, perhaps with `*`: YAML like `accounts`, or htpasswd's form."""
    tokens: TokensSettings = TokensSettings()
    """Access tokens."""
    jwt: JwtSettings = JwtSettings()
    """JWTs: the sidecar's own and those of trusted issuers."""
    identity: IdentitySettings = Field(default_factory=IdentitySettings)
    """What the upstream is told about the caller."""
    store: StoreSettings = StoreSettings()
    """Redis, where tokens live."""
    throttle: ThrottleSettings = ThrottleSettings()
    """When repeated failures are answered with 429."""
    limits: LimitsSettings = LimitsSettings()
    """What a caller may use."""
    trusted_proxies: values.ListOf[values.TrustedNetwork] = ()
    """Networks whose `X-Forwarded-*` and `Forwarded` are believed, and `unix` for the peers of unix
    sockets; nobody is by default.
    """
    portal: Annotated[PortalSettings | None, BeforeValidator(_false_is_off)] = None
    """The API-keys page and the token API; left out or `false`: off."""
    operations: Annotated[OperationsSettings | None, BeforeValidator(_false_is_off)] = (
        OperationsSettings()
    )
    """Health, readiness, metrics, decision endpoint and JWKS; `false`: off."""
    workers: values.Workers = 1
    """Processes that serve; `auto`: one for each core."""
    drain: DrainSettings = DrainSettings()
    """What happens on SIGTERM."""
    access_log: AccessLogSettings = AccessLogSettings()
    """One JSON line for each request."""
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    """W3C Trace Context, and the export of spans."""
    _data_directory: Path = PrivateAttr(Path("data"))

    @property
    def data_directory(self) -> Path:
        """Where an embedded store keeps its data: ``data`` beside the configuration file."""
        return self._data_directory

    def model_post_init(self, context: Any) -> None:
        """Take the place of the file from the context; without one, it is the current directory."""
        if context and "data_directory" in context:
            self._data_directory = context["data_directory"]

    _accounts_of_files: Mapping[str, Account] = PrivateAttr(
        default_factory=lambda: MappingProxyType({})
    )

    def add_accounts(self, accounts: Mapping[str, Account]) -> None:
        """Add the accounts that the files of ``accounts_from`` hold. Call this once, at first."""
        self._accounts_of_files = accounts

    @property
    def accounts_of_files(self) -> Mapping[str, Account]:
        """The accounts that the files of ``accounts_from`` hold, by name."""
        return self._accounts_of_files

    @cached_property
    def known_accounts(self) -> Mapping[str, Account]:
        """Every account, by name: those of this file and of ``accounts_from``."""
        own = {name: account.named(name) for name, account in self.accounts.items()}
        return MappingProxyType({**own, **self._accounts_of_files})

    @model_validator(mode="before")
    @classmethod
    def _name_the_only_upstream(cls, data: Any) -> Any:
        """Give each route without an ``upstream`` the only one there is."""
        if not isinstance(data, Mapping):
            return data
        upstreams, routes = data.get("upstreams"), data.get("routes")
        if (
            not isinstance(upstreams, Mapping)
            or len(upstreams) != 1
            or not isinstance(routes, list)
        ):
            return data
        (only,) = upstreams
        named = [{"upstream": only, **r} if isinstance(r, Mapping) else r for r in routes]
        return {**data, "routes": named}
