"""Policy: whether a caller with a valid credential may make this request.

Checked in this order: the account is declared, it is enabled, the route admits it, the account's
paths cover the request's path, the token's paths cover it. A token's paths can only narrow those of
its account. If services may read the path in another way, each list of paths must cover both
readings or neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from sidecar.core.model import (
    Credential,
    Denial,
    Form,
    TokenRecord,
    ValueObject,
)
from sidecar.core.path_index import PathList
from sidecar.core.patterns import compile_pattern
from sidecar.core.routes import Route

_MISSING: Final = Denial("missing_credentials", "The request carries no credential.")
UNDECLARED: Final = Denial("invalid_token", "The token is not valid.")
DISABLED: Final = Denial("account_disabled", "The account is disabled.")
NOT_ON_ROUTE: Final = Denial("not_allowed", "The account may not use this route.")
NOT_ON_PATH: Final = Denial("not_allowed", "The account may not use this path.")
NOT_WITH_TOKEN: Final = Denial("not_allowed", "The token may not be used on this path.")
OTHER_FOR_ACCOUNT: Final = Denial(
    "unsafe_path", "Some services read this path as another, where the account's rule is another."
)
OTHER_FOR_TOKEN: Final = Denial(
    "unsafe_path", "Some services read this path as another, where the token's rule is another."
)
_ANY_PATH: Final = PathList()


@dataclass(frozen=True, slots=True)
class Account:
    """A caller that the configuration declares. ``repr`` never shows the password's hash."""

    name: str
    password_hash: str | None = field(default=None, repr=False)
    """The password's hash (``password_schemes``); ``None``: no password is right."""
    paths: PathList = _ANY_PATH
    """The paths that the account may use; empty: all that its routes allow."""
    max_token_days: int = 0
    """The longest lifetime of a token; 0: no limit."""
    max_tokens: int = 0
    """How many live tokens it may have; 0: no limit."""
    groups: frozenset[str] = frozenset()
    """The groups that a route may name instead of the account."""
    disabled: bool = False


class Principal(ValueObject):
    """Who is calling, and by which credential; the identity headers are derived from it.

    ``record`` belongs to the token; ``None`` for an account that used its password.
    """

    __slots__ = ("account", "form", "record")

    def __init__(self, account: str, form: Form, record: TokenRecord | None) -> None:
        self.account: Final = account
        self.form: Final = form
        self.record: Final = record

    def parts(self) -> tuple[object, ...]:
        """See ``ValueObject``."""
        return self.account, self.form, self.record


def is_for(credential: Credential | Denial | None, forms: frozenset[Form]) -> bool:
    """Return whether an extracted credential, readable or not, is one that a route looks at."""
    if credential is None:
        return False
    return isinstance(credential, Denial) or credential.form in forms


def accept(credential: Credential | Denial | None, forms: frozenset[Form]) -> Credential | Denial:
    """Return the extracted credential if a route accepts its form, else a denial.

    No credential, or one in another form, is ``missing_credentials``.
    """
    if credential is None:
        return _MISSING
    if isinstance(credential, Denial):
        return credential
    form = credential.form
    if form in forms:
        return credential
    accepted = ", ".join(sorted(forms)) or "none"
    return Denial(
        "missing_credentials",
        f"A credential in the form {form} is not accepted here; accepted: {accepted}.",
    )


def judge(
    route: Route,
    account: Account | None,
    record: TokenRecord | None,
    path: str,
    readings: tuple[str, ...] = (),
) -> Denial | None:
    """Return the denial, or ``None`` if the request may pass.

    ``account`` is ``None`` if the credential names an account that is not declared (any more); that
    is answered like an unknown token. ``path`` is normalised (``patterns.normalise_path``), and
    ``readings`` are the other ways to read it (``routes.RouteMatch``).
    """
    if account is None:
        return UNDECLARED
    if account.disabled:
        return DISABLED
    if route.accounts is not None and account.name not in route.accounts:  # noqa: SIM102 - hot path
        if route.groups.isdisjoint(account.groups):
            return NOT_ON_ROUTE
    if readings:
        denial = _compare(account, record, path, readings)
        if denial is not None:
            return denial
    if account.paths.patterns and not account.paths.covers(path):
        return NOT_ON_PATH
    if record is not None and record.paths and not _compile(record.paths).covers(path):
        return NOT_WITH_TOKEN
    return None


def _compare(
    account: Account, record: TokenRecord | None, path: str, readings: tuple[str, ...]
) -> Denial | None:
    """Refuse a path if the account's or the token's patterns cover only some of its readings."""
    if _differ(account.paths, path, readings):
        return OTHER_FOR_ACCOUNT
    if record is not None and record.paths and _differ(_compile(record.paths), path, readings):
        return OTHER_FOR_TOKEN
    return None


def _differ(paths: PathList, path: str, readings: tuple[str, ...]) -> bool:
    is_covered = paths.covers(path)
    return any(paths.covers(reading) is not is_covered for reading in readings)


@lru_cache(maxsize=4096)
def _compile(texts: tuple[str, ...]) -> PathList:
    """Compile a record's paths; if one is invalid, return none, so that nothing matches."""
    try:
        return PathList([compile_pattern(text) for text in texts])
    except ValueError:
        return PathList()
