"""The rules for what is asked of a token: name, days, kind, paths, overlap, account, number.

Each rule stands here once, with one message that says what to do. The command line shows the
message as it is, behind ``sidecar: ``; the page and the API show it as a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import ClassVar, Final, TypeVar

from sidecar.core import tokens
from sidecar.core.counts import count_of
from sidecar.core.errors import UsageError
from sidecar.core.jws import JwtRefused
from sidecar.core.model import TokenKind
from sidecar.core.patterns import compile_pattern
from sidecar.core.policy import Account
from sidecar.core.tokens import Shape
from sidecar.core.unclaimed_jwts import Claimants

DAY_SECONDS: Final = 86400
MAX_DAYS: Final = 36_500
MAX_NAME_CHARS: Final = 100
MAX_PATHS: Final = 64
MAX_PATHS_BYTES: Final = 2048
MAX_OVERLAP_SECONDS: Final = 30 * DAY_SECONDS
DEFAULT_OVERLAP: Final = "1h"

_MOST_COMPARED: Final = 2000  # names, to find one that is written alike; each takes 10 µs
# RFC 7519 section 6: the signature is empty.
_is_unsigned_jwt: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.").fullmatch
_is_day_count: Final = re.compile(r"[0-9]{1,6}").fullmatch
_Declared = TypeVar("_Declared")


class InvalidField(UsageError):
    """A field breaks its rule; ``field`` is its name in the API and on the page."""

    code: ClassVar[str] = "invalid_fields"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TooManyTokens(UsageError):
    """The account has as many live tokens as it may have."""

    code: ClassVar[str] = "too_many_tokens"


def check_name(name: object) -> str:
    """Return the name less the spaces around it, which nobody could see."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidField("name", "give the token a name, so that you can recognise it later")
    if len(name) > MAX_NAME_CHARS:
        raise InvalidField("name", f"shorten the name to {MAX_NAME_CHARS} characters")
    if not name.isprintable():
        raise InvalidField("name", "remove control and invisible characters from the name")
    return name.strip(" ")


def check_days(days: object, account: Account | None = None) -> int:
    """Return the lifetime in days, 0 for unlimited; ``account`` may be limited to fewer."""
    most = account.max_token_days if account is not None else 0
    if type(days) is int and (1 if most else 0) <= days <= min(most or MAX_DAYS, MAX_DAYS):
        return days
    if account is not None and most:
        raise InvalidField(
            "days",
            f"enter a whole number of days from 1 to {min(most, MAX_DAYS)}: "
            f"no token of account {account.name} may live longer",
        )
    raise InvalidField(
        "days",
        f"enter a whole number of days from 0 to {MAX_DAYS}; 0 means that the token never expires",
    )


def parse_days(text: str) -> int:
    """Return the whole number of days that someone has typed, for ``check_days`` to judge."""
    return int(text) if _is_day_count(text) else check_days(text)


def check_renewable(lifetime_seconds: float | None, account: Account) -> None:
    """Check that a rotated token's lifetime (``None``: unlimited) is still allowed."""
    most = account.max_token_days
    if most and (lifetime_seconds is None or lifetime_seconds > most * DAY_SECONDS):
        raise InvalidField(
            "days",
            f"create a new token instead: tokens of account {account.name} may live at most "
            f"{most} days, and this one was made to live longer",
        )


def check_kind(kind: object, *, can_issue_jwt: bool) -> TokenKind:
    """Return the kind of a token that is to be made here."""
    if not isinstance(kind, str) or kind not in (TokenKind.ACCESS, TokenKind.JWT):
        raise InvalidField("kind", "choose an access token or a JWT")
    if kind == TokenKind.JWT and not can_issue_jwt:
        raise InvalidField(
            "kind",
            "choose an access token, or have a key added that signs JWTs: "
            "`sidecar key generate` makes one for jwt.keys",
        )
    return TokenKind(kind)


def check_paths(paths: object) -> tuple[str, ...]:
    """Return the path patterns that a token is limited to."""
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        raise InvalidField("paths", "give the paths as a list of texts")
    if len(paths) > MAX_PATHS:
        raise InvalidField("paths", f"give at most {MAX_PATHS} paths")
    if sum(len(path.encode(errors="replace")) + 3 for path in paths) > MAX_PATHS_BYTES:
        raise InvalidField(
            "paths", f"shorten the paths: together they may have at most {MAX_PATHS_BYTES} bytes"
        )
    for path in paths:
        try:
            compile_pattern(path)
        except ValueError as error:
            raise InvalidField("paths", str(error)) from None
    return tuple(paths)


def check_importable(secret: str, prefix: str, claimants: Claimants, now: float) -> float | None:
    """Check that this can be a token of another system; ``prefix`` is that of our own.

    Return the end that it sets itself (Unix seconds), as a JWT with an ``exp`` does; ``None``: it
    sets none. Raises ``UsageError``, also for a JWT that one of ``claimants`` judges.
    """
    shape = tokens.classify(secret, prefix)
    if shape is Shape.JWT:
        try:
            return claimants.read_importable(secret, now).expires_at
        except JwtRefused as error:
            raise UsageError(f"this JWT can't be imported: {error}") from None
    if _is_unsigned_jwt(secret):
        raise UsageError("this JWT can't be imported: it is not signed, so anybody can make it")
    if shape is Shape.UNREADABLE:
        raise UsageError(
            f"an imported token has {tokens.MIN_OPAQUE_CHARS} to {tokens.MAX_OPAQUE_CHARS} "
            "visible ASCII characters"
        )
    has_prefix = prefix != "" and secret.startswith(prefix)
    if shape is not Shape.OTHER or has_prefix:
        raise UsageError(
            f"a token that begins with {prefix} can't be imported: "
            "only this sidecar's own tokens begin so"
        )
    return None


def earlier_end(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two ends in Unix seconds; ``None`` is never."""
    return min((end for end in (one, other) if end is not None), default=None)


def check_overlap(overlap_seconds: float) -> float:
    """Return for how long a rotated token may go on living."""
    if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
        most_days = MAX_OVERLAP_SECONDS // DAY_SECONDS
        raise InvalidField("overlap", f"choose an overlap from 0s to {most_days}d, such as 1h")
    return overlap_seconds


def check_account(name: str, accounts: Mapping[str, Account]) -> Account:
    """Return the account that a token is to be made for."""
    account = accounts.get(name)
    if account is None:
        raise InvalidField("account", describe_undeclared(name, accounts))
    if account.disabled:
        raise InvalidField(
            "account", f"account {name} is disabled: enable it in the configuration first"
        )
    return account


def describe_undeclared(name: str, accounts: Mapping[str, _Declared]) -> str:
    """Say that the configuration declares no such account, and which one may be meant."""
    return f"the configuration declares no account {name!r}{suggest_account(name, accounts)}"


def suggest_account(name: str, accounts: Iterable[str]) -> str:
    """Return which account may be meant, in brackets; empty if none is written alike."""
    near = get_close_matches(name, islice(accounts, _MOST_COMPARED), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def check_room(account: Account, current: int, live: int) -> None:
    """Raise ``TooManyTokens`` unless the account may have one more token.

    ``current`` counts its tokens that have not been rotated, ``live`` all that still live.
    """
    most = account.max_tokens
    if most and current >= most:
        raise TooManyTokens(
            f"account {account.name} has {count_of(current, 'token')}, and may have {most}: revoke "
            f"one that is no longer needed, or have accounts.{account.name}.max_tokens raised"
        )
    if most and live >= 2 * most:
        raise TooManyTokens(
            f"account {account.name} has {count_of(live, 'token')} with those that were rotated "
            f"and live on, and may have {2 * most}: revoke one that is no longer needed, or rotate "
            "without overlap"
        )
