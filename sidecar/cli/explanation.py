"""The output of ``sidecar explain``, as text and as JSON; it never contains a credential."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.cli.claimed_account import find_claimed
from sidecar.core.credential_faults import find, spell_out
from sidecar.core.errors import Fault
from sidecar.core.headers import Headers
from sidecar.core.masking import hide_credential, hide_tokens
from sidecar.core.model import Credential, Denial, TokenCredential
from sidecar.core.patterns import PathPattern, normalise_path
from sidecar.core.problems import PROBLEM_TYPES
from sidecar.core.readings import other_readings
from sidecar.core.routes import Route
from sidecar.core.targets import parse_target
from sidecar.core.tokens import Shape, classify

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.observability.access_log import RequestLog
    from sidecar.proxy.exchange import Authorization
    from sidecar.proxy.header_cache import ParsedHeaders
    from sidecar.proxy.rules import Rules

_SHAPES = {
    Shape.ACCESS: "access token",
    Shape.BAD_CHECKSUM: "access token with a wrong checksum",
    Shape.JWT: "JWT",
    Shape.OTHER: "token of another system",
    Shape.UNREADABLE: "unreadable",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a request; ``None`` marks what is absent or was not reached."""

    passes: bool
    method: str | None
    path: str | None
    route: str | None
    credential: str | None
    """Its form; on a public route, credentials are ignored."""
    token: str | None
    """The kind of token, judged by its shape."""
    account: str | None
    token_id: str | None
    upstream: str | None
    status: int | None
    """The status of the denial; ``None``: the upstream answers."""
    code: str | None
    why: str


class Explainer:
    """Explains one request by the gateway's verdict and by what it noted in ``entry``."""

    def __init__(self, settings: Settings, entry: RequestLog) -> None:
        self.entry = entry
        self._settings = settings
        self._shape: Shape | None = None
        self._rules: Rules | None = None
        self._found: Credential | Denial | None = None
        self._headers: Headers = ()
        self._raw_target = ""

    def look_at(self, headers: ParsedHeaders, raw_target: str) -> None:
        """Remember the request's target and credential."""
        _, mark, query = raw_target.partition("?")
        found = headers.rules.credentials.extract(headers.scan, query if mark else None)[0]
        self._rules, self._found, self._raw_target = headers.rules, found, raw_target
        self._headers = headers.headers
        if isinstance(found, TokenCredential):
            self._shape = classify(found.secret, self._settings.tokens.prefix)

    def passed(self, authorization: Authorization) -> Explanation:
        """Explain a request that would go to its upstream."""
        why = "the route is public, so everyone may pass"
        if authorization.principal is not None:
            why = f"{authorization.principal.account} may use this route and path"
        if claimed := self._claimed():
            why += f"; {claimed}"
        if authorization.hides_credential:
            why += "; the credential is removed from the query"
        return self._explanation(why, upstream=authorization.route.upstream)

    def failed(self, fault: Fault) -> Explanation:
        """Explain a request that can't be judged, with the message of the log, as for admins."""
        return self._explanation(str(fault), code=fault.code)

    def denied(self, denial: Denial) -> Explanation:
        """Explain a request that would be refused."""
        if self._rules is not None:
            denial = spell_out(
                denial, self._rules.credentials, self._headers, self._raw_target, self.entry.forms
            )
        return self._explanation(f"{denial.detail} {self._hint(denial)}".strip(), code=denial.code)

    def _explanation(
        self, why: str, *, upstream: str | None = None, code: str | None = None
    ) -> Explanation:
        entry = self.entry
        token = _SHAPES[self._shape] if self._shape is not None and entry.form else None
        return Explanation(
            passes=code is None,
            method=entry.method or None,
            path=self._masked(entry.path) or None,
            route=entry.route or None,
            credential=str(entry.form) or None,
            token=token,
            account=entry.account or None,
            token_id=entry.token_id or None,
            upstream=upstream,
            status=None if code is None else PROBLEM_TYPES[code].status,
            code=code,
            why=why,
        )

    def _hint(self, denial: Denial) -> str:
        """Return advice that the denial's own detail does not give."""
        account, claimed = self.entry.account, self._claimed()
        match denial.code:
            case "no_route":
                return f"The routes are {', '.join(route.path for route in self._settings.routes)}."
            case "method_not_allowed":
                return f"Allowed: {', '.join(denial.allow)}."
            case "unsafe_path" if self._rules is not None:
                return self._readings(self._rules)
            case "missing_credentials":
                return self._places()
            case "malformed_credentials" if self._rules is not None:
                rules = self._rules.credentials
                found = find(rules, self._headers, self._raw_target, self.entry.forms)
                return "" if found is None else found.fault.advice
            case "invalid_token" if self._shape is Shape.BAD_CHECKSUM:
                return "Its checksum does not fit its characters."
            case "invalid_token" if account and account not in self._settings.known_accounts:
                return f"The configuration declares no account {account!r}."
            case "invalid_token" if claimed:
                return f"As to its account, {claimed}. `sidecar token inspect` tells more."
            case "invalid_token" if self._shape is Shape.JWT:
                return "`sidecar token inspect` shows its claims."
        return ""

    def _claimed(self) -> str:
        """Return what a foreign JWT says of its account; empty for any other credential."""
        if self._shape is not Shape.JWT or not isinstance(self._found, TokenCredential):
            return ""
        claimed = find_claimed(self._found.secret, self._settings)
        return "" if claimed is None else str(claimed)

    def _masked(self, path: str) -> str:
        return hide_tokens(hide_credential(path, self._found), self._settings.tokens.prefix)

    def _readings(self, rules: Rules) -> str:
        """Describe how services may read the path, and which rule each reading falls under."""
        target = parse_target(self.entry.method, self._raw_target)
        if isinstance(target, Denial):
            return ""
        path = normalise_path(target.path)
        readings = {self._masked(reading): reading for reading in other_readings(target.path, path)}
        account = rules.accounts.get(self.entry.account)
        paths = () if account is None else account.paths
        sent = _place_of(rules, self.entry.method, path, paths)
        others = [
            f"As {shown} it is {place}."
            for shown, reading in readings.items()
            if (place := _place_of(rules, self.entry.method, reading, paths)) != sent
        ]
        if others:
            return " ".join([f"As sent it is {sent}.", *others])
        return f"It can also be read as {' or '.join(readings)}."

    def _places(self) -> str:
        named = self._settings.credentials
        headers, query = ", ".join(named.headers) or "none", ", ".join(named.query) or "none"
        return f"Checked: Authorization; headers {headers}; parameters {query}."


def _place_of(rules: Rules, method: str, path: str, paths: tuple[PathPattern, ...]) -> str:
    """Describe which route a path falls under, and whether the account's paths cover it."""
    route = rules.routes.match(method, path)
    under = f"under the route {route.name}" if isinstance(route, Route) else "under no route"
    if not paths:
        return under
    is_among = any(pattern.matches(path) for pattern in paths)
    return f"{under} and {'among' if is_among else 'not among'} the account's paths"


def print_explanation(told: Explanation) -> None:
    """Print an explanation as text."""
    lines = {
        "route": told.route,
        "credential": ", ".join(filter(None, (told.credential, told.token))),
        "account": told.account and _with_token(told.account, told.token_id),
        "upstream": told.upstream,
        "answer": "the upstream's" if told.passes else f"{told.status} {told.code}",
        "why": told.why,
    }
    print(_plain(" ".join(filter(None, (told.method, told.path)))) or "not a request")
    for name, value in lines.items():
        print(f"  {name:<11} {_plain(value) if value else '-'}")


def _with_token(account: str, token_id: str | None) -> str:
    return f"{account}, by token {token_id}" if token_id else account


def _plain(text: str) -> str:
    """Return text with unprintable characters replaced, which could control the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
