"""Which rule of the configuration decided on a request, and what to change to have it otherwise.

For ``sidecar explain``, so for the admin's eyes: it names accounts, routes and settings, but no
credential, nor a name that was sent and is no account's (it may be a password in the wrong field).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from sidecar.auth.authenticator import OTHER_ACCOUNT
from sidecar.cli.claimed_account import ClaimedAccount, find_claimed
from sidecar.core.credential_faults import find, places_of
from sidecar.core.model import Denial, PasswordCredential, TokenCredential
from sidecar.core.path_index import PathList
from sidecar.core.patterns import normalise_path
from sidecar.core.policy import NOT_ON_PATH, NOT_ON_ROUTE, OTHER_FOR_ACCOUNT
from sidecar.core.readings import decoded_readings, other_readings
from sidecar.core.routes import Route
from sidecar.core.targets import ENCODED_DELIMITER, ENCODED_OVER_AND_OVER, Target, parse_target
from sidecar.core.token_rules import suggest_account
from sidecar.core.tokens import TOKEN_CHARS, Shape, classify
from sidecar.core.unclaimed_jwts import NOT_TRUSTED

if TYPE_CHECKING:
    from sidecar.config.locations import Step
    from sidecar.config.settings import Settings
    from sidecar.core.credentials import CredentialRules
    from sidecar.core.model import Credential
    from sidecar.observability.access_log import RequestLog
    from sidecar.proxy.exchange import Authorization
    from sidecar.proxy.rules import Rules

_MOST_LISTED = 8
_FIXED = "No setting changes this."


class Ruling(NamedTuple):
    """``steps`` lead to the key that decided; empty: no key did. ``advice`` is for the admin."""

    steps: tuple[Step, ...]
    advice: str


NO_RULING = Ruling((), "")


class Case(NamedTuple):
    """A refused request: all that is known of it when it comes to the question why."""

    settings: Settings
    rules: Rules
    asked: Authorization
    entry: RequestLog
    found: Credential | Denial | None
    """The credential that it carries, whatever the route accepts."""
    names: CredentialRules
    """Where the route looks for credentials."""
    mask: Callable[[str], str]
    """Hides tokens in a path."""

    @property
    def route_index(self) -> int | None:
        """Return the place of its route in the file; ``None``: it has none."""
        if not self.asked.is_routed:
            return None
        routes = self.rules.routes.routes
        return next(n for n, route in enumerate(routes) if route is self.asked.route)

    @property
    def account(self) -> str:
        """Return the account that the credential belongs to; empty if that is not known."""
        return self.entry.account


def rule_on_unread(denial: Denial) -> Ruling:
    """Return the ruling on a request that could not be read as one: a limit, or HTTP itself."""
    detail = denial.detail
    if denial.code == "uri_too_long":
        return _limit("url_bytes")
    if denial.code == "body_too_large":
        return _limit("body_bytes")
    if denial.code == "headers_too_large":
        return _limit("headers" if "too many" in detail else "header_bytes")
    return Ruling((), f"HTTP itself forbids it. {_FIXED}")


def rule_on(denial: Denial, case: Case) -> Ruling:
    """Return the ruling on a request that was refused by target, route, credential or policy."""
    match denial.code:
        case "no_route":
            return _rule_on_no_route(case)
        case "method_not_allowed":
            return _rule_on_method(denial, case)
        case "unsafe_path":
            return _rule_on_path(denial, case)
        case "missing_credentials":
            return _rule_on_missing(case)
        case "malformed_credentials":
            fault = find(case.names, *_sent(case), case.entry.forms)
            return Ruling((), "" if fault is None else fault.fault.advice)
        case "ambiguous_credentials":
            places = " and ".join(places_of(case.names, *_sent(case)))
            return Ruling((), f"They stand in {places}. The same one twice would be fine.")
        case "invalid_token":
            return _rule_on_user_name() if denial == OTHER_ACCOUNT else _rule_on_token(denial, case)
        case "invalid_password":
            return _rule_on_password(case)
        case "account_disabled":
            steps = ("accounts", case.account, "disabled")
            return Ruling(steps, f"To let {case.account} in again, take `disabled: true` out.")
        case "not_allowed":
            return _rule_on_policy(denial, case)
    return rule_on_unread(denial)


def rule_on_fault(code: str) -> Ruling:
    """Return the ruling on a request that could not be decided."""
    if code == "store_unavailable":
        return Ruling(("store", "url"), "`sidecar check --connect` tries the store.")
    return NO_RULING


def _limit(name: str) -> Ruling:
    return Ruling(("limits", name), f"Raise limits.{name} if such requests are to pass.")


def _sent(case: Case) -> tuple[Sequence[tuple[bytes, bytes]], str]:
    return case.asked.headers.headers, case.asked.raw_target


# Target and route.


def _rule_on_no_route(case: Case) -> Ruling:
    paths = [route.path for route in case.settings.routes]
    target = parse_target(case.asked.method, case.asked.raw_target)
    sent = target.path if isinstance(target, Target) else ""
    near = get_close_matches(sent, paths, _MOST_LISTED, 0.4) if sent else []
    listed = paths if len(paths) <= _MOST_LISTED else near
    if not listed:
        return Ruling(("routes",), f"None of the {len(paths)} routes is like it; add one for it.")
    of = "" if listed is paths else f" most like it, of {len(paths)},"
    return Ruling(("routes",), f"The routes{of} are {', '.join(listed)}. Add one for it.")


def _rule_on_method(denial: Denial, case: Case) -> Ruling:
    """Name the first route that has the path: its methods are what could be widened."""
    target = parse_target(case.asked.method, case.asked.raw_target)
    path = normalise_path(target.path) if isinstance(target, Target) else ""
    routes = case.rules.routes.routes
    index = next((n for n, r in enumerate(routes) if r.methods and r.pattern.matches(path)), None)
    allowed = f"Allowed: {', '.join(denial.allow)}."
    if index is None:
        return Ruling((), allowed)
    return Ruling(
        ("routes", index, "methods"),
        f"{allowed} Add the method to `methods` of the route {routes[index].name}.",
    )


def _rule_on_path(denial: Denial, case: Case) -> Ruling:
    target = parse_target(case.asked.method, case.asked.raw_target, with_slashes=True)
    if denial == ENCODED_DELIMITER and isinstance(target, Target):
        return Ruling(("routes",), "A route lets %2F in if it has `encoded_slash: true`.")
    if isinstance(target, Denial):
        more = "" if denial is ENCODED_OVER_AND_OVER else " Within a query, it would be fine."
        return Ruling((), f"Send the path that is meant. {_FIXED}{more}")
    steps: tuple[Step, ...] = ()
    if denial == OTHER_FOR_ACCOUNT:
        steps = ("accounts", case.account, "paths")
    elif case.route_index is not None:
        steps = ("routes", case.route_index)
    else:
        route = case.rules.routes.match(case.asked.method, normalise_path(target.path))
        routes = case.rules.routes.routes
        steps = () if isinstance(route, Denial) else ("routes", routes.index(route))
    return Ruling(steps, _describe_readings(case, target))


def _describe_readings(case: Case, target: Target) -> str:
    """Describe how services may read the path, and which rule each reading falls under."""
    rules, method = case.rules, case.asked.method
    path = normalise_path(target.path)
    all_readings = (*other_readings(target.path, path), *decoded_readings(target.path))
    readings = {case.mask(reading): reading for reading in all_readings}
    account = rules.accounts.get(case.account)
    paths = PathList() if account is None else account.paths
    sent = _place_of(rules, method, path, paths)
    others = [
        f"As {shown} it is {place}."
        for shown, reading in readings.items()
        if (place := _place_of(rules, method, reading, paths)) != sent
    ]
    if others:
        return " ".join([f"As sent it is {sent}.", *others])
    return f"It can also be read as {' or '.join(readings)}."


def _place_of(rules: Rules, method: str, path: str, paths: PathList) -> str:
    """Describe which route a path falls under, and whether the account's paths cover it."""
    route = rules.routes.match(method, path)
    under = f"under the route {route.name}" if isinstance(route, Route) else "under no route"
    if not paths:
        return under
    is_among = paths.covers(path)
    return f"{under} and {'among' if is_among else 'not among'} the account's paths"


# Credentials.


def _rule_on_missing(case: Case) -> Ruling:
    index = case.route_index
    found = case.found
    if index is not None and isinstance(found, TokenCredential | PasswordCredential):
        form = found.form
        return Ruling(
            ("routes", index, "credentials"),
            f"Add {form} to `credentials` of the route {case.asked.route.name}, or have the caller "
            "send another form.",
        )
    named = case.names
    headers, query = ", ".join(named.headers) or "none", ", ".join(named.query) or "none"
    fields = named.pair
    pair = "" if fields is None else f"; {fields.account} with {fields.password}"
    steps = ("credentials",) if index is None else ("routes", index)
    return Ruling(
        steps,
        f"Checked: Authorization; headers {headers}{pair}; parameters {query}. A proxy on the way "
        "may have dropped it.",
    )


def _rule_on_user_name() -> Ruling:
    return Ruling((), "Send the token alone, or with the name of its own account.")


def _rule_on_token(denial: Denial, case: Case) -> Ruling:
    account, found, settings = case.account, case.found, case.settings
    if account and account not in case.rules.accounts:
        near = suggest_account(account, case.rules.accounts)
        return Ruling(
            ("accounts",),
            f"The configuration declares no account {account!r}{near}. Declare it, or revoke its "
            "tokens.",
        )
    if not isinstance(found, TokenCredential):
        return NO_RULING
    prefix = settings.tokens.prefix
    shape = classify(found.secret, prefix)
    if shape is Shape.BAD_CHECKSUM:
        return Ruling((), "Its checksum does not fit its characters.")
    if shape is Shape.JWT and denial == NOT_TRUSTED:
        return Ruling(
            ("jwt", "trusted_issuers"),
            "No key and no issuer of the configuration claims it, and it was not imported. "
            "`sidecar token inspect` shows its claims. Name its issuer, or take it over with "
            "`sidecar token import` if no key of that system can be had.",
        )
    if shape is Shape.JWT:
        return _rule_on_jwt(find_claimed(found.secret, settings))
    if prefix and found.secret.startswith(prefix) and len(found.secret) != TOKEN_CHARS:
        return Ruling(
            (),
            f"It begins as our access tokens do, but they have {TOKEN_CHARS} characters: it was "
            "cut off, or something was added.",
        )
    return Ruling(
        ("store",),
        "The store has no such token: it ended, was revoked, or belongs to another store or "
        "`store.prefix`. `sidecar token list` shows those that live; `sidecar token import` takes "
        "over one of another system.",
    )


def _rule_on_jwt(claimed: ClaimedAccount | None) -> Ruling:
    if claimed is None:
        return Ruling(("jwt",), "`sidecar token inspect` shows its claims.")
    told = f"As to its account, {claimed}. `sidecar token inspect` tells more."
    return Ruling(("jwt", "trusted_issuers", claimed.issuer_index), told)


def _rule_on_password(case: Case) -> Ruling:
    name = case.found.account if isinstance(case.found, PasswordCredential) else ""
    declared = case.rules.accounts.get(name)
    if declared is None:
        near = suggest_account(name, case.rules.accounts)
        return Ruling(("accounts",), f"The configuration declares no such account{near}.")
    steps = ("accounts", name, "password_hash")
    if declared.password_hash is None:
        return Ruling(
            steps, f"{name} has no password_hash, so no password is right; its tokens are."
        )
    return Ruling(
        steps,
        f"The password is not the one that was hashed for {name}. `sidecar account hash-password` "
        "makes a new hash.",
    )


# Policy.


def _rule_on_policy(denial: Denial, case: Case) -> Ruling:
    account, index = case.account, case.route_index
    if denial == NOT_ON_ROUTE and index is not None:
        admitted = case.settings.routes[index].accounts
        return Ruling(
            ("routes", index, "accounts"),
            f"The route {case.asked.route.name} admits {_listed(admitted)}. Add {account} there.",
        )
    if denial == NOT_ON_PATH:
        paths = [pattern.text for pattern in case.rules.accounts[account].paths.patterns]
        return Ruling(
            ("accounts", account, "paths"),
            f"The paths of {account} are {_listed(paths)}. Add one that covers this path.",
        )
    record = case.asked.principal.record if case.asked.principal is not None else None
    own = _listed(record.paths) if record is not None else ""
    return Ruling(
        (),
        f"The token's own paths are {own}. They can't be changed: create another token with a "
        "--path that covers this one.",
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    listed = ", ".join(names[:_MOST_LISTED])
    return f"{listed} and {more} more" if more > 0 else listed
