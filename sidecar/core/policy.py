"""Policy: whether a caller whose credential is good may pass here.

In this order: the account is declared, it is enabled, it is on the route's list, the path is among
the account's, the path is among the token's. A token's paths only ever narrow its account's. Where
services may read the path as another one, that one must be among the same patterns, or outside of
the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from sidecar.core.model import Denial, Form, TokenRecord, ValueObject
from sidecar.core.patterns import PathPattern, compile_pattern
from sidecar.core.routes import Route

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


@dataclass(frozen=True, slots=True)
class Account:
    """Who may call, as the configuration declares it. ``repr`` never shows the password's hash."""

    name: str
    password_hash: str | None = field(default=None, repr=False)
    """An Argon2id hash in PHC form; ``None``: no password is right."""
    paths: tuple[PathPattern, ...] = ()
    """Where the account may go; empty: everywhere that a route lets it."""
    max_token_days: int = 0
    """The longest lifetime of a token; 0: no limit."""
    max_tokens: int = 0
    """How many live tokens it may have; 0: no limit."""
    disabled: bool = False


class Principal(ValueObject):
    """Who is calling, and by what: all that an identity is made of.

    ``record`` is the token's; ``None`` for an account that came with its password.
    """

    __slots__ = ("account", "form", "record")

    def __init__(self, account: str, form: Form, record: TokenRecord | None) -> None:
        self.account: Final = account
        self.form: Final = form
        self.record: Final = record

    def parts(self) -> tuple[object, ...]:
        """See ``ValueObject``."""
        return self.account, self.form, self.record


def judge(
    route: Route,
    account: Account | None,
    record: TokenRecord | None,
    path: str,
    readings: tuple[str, ...] = (),
) -> Denial | None:
    """Return the denial, or ``None``: may pass.

    ``account`` is ``None`` when the credential names an account that is not declared (any more):
    answered like an unknown token. ``path`` is normalised (``patterns.normalise_path``), and
    ``readings`` are what services may read instead (``routes.Place``).
    """
    if account is None:
        return UNDECLARED
    if account.disabled:
        return DISABLED
    if route.accounts is not None and account.name not in route.accounts:
        return NOT_ON_ROUTE
    if readings:
        denial = _compare(account, record, path, readings)
        if denial is not None:
            return denial
    if account.paths and not _is_among(account.paths, path):
        return NOT_ON_PATH
    if record is not None and record.paths and not _is_among(_compile(record.paths), path):
        return NOT_WITH_TOKEN
    return None


def _compare(
    account: Account, record: TokenRecord | None, path: str, readings: tuple[str, ...]
) -> Denial | None:
    """Refuse a path of which the account's or the token's patterns say one thing, and another of
    one of its readings.
    """
    if _differ(account.paths, path, readings):
        return OTHER_FOR_ACCOUNT
    if record is not None and record.paths and _differ(_compile(record.paths), path, readings):
        return OTHER_FOR_TOKEN
    return None


def _differ(patterns: tuple[PathPattern, ...], path: str, readings: tuple[str, ...]) -> bool:
    is_among = _is_among(patterns, path)
    return any(_is_among(patterns, reading) is not is_among for reading in readings)


def _is_among(patterns: tuple[PathPattern, ...], path: str) -> bool:
    for pattern in patterns:  # noqa: SIM110 - half the time of any(), and on the hot path
        if pattern.matches(path):
            return True
    return False


@lru_cache(maxsize=4096)
def _compile(texts: tuple[str, ...]) -> tuple[PathPattern, ...]:
    """Compile a record's paths; one that can't be read leaves none, so that nothing matches."""
    try:
        return tuple(compile_pattern(text) for text in texts)
    except ValueError:
        return ()
