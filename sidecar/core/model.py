"""The values of the domain, which all other packages pass around. They never change.

Times are Unix seconds (``float``); ``None`` for an expiry means *unlimited*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sidecar.core.kinds import ALL_FORMS as ALL_FORMS
from sidecar.core.kinds import Form as Form
from sidecar.core.kinds import TokenKind as TokenKind


class ValueObject:
    """The base of values that are equal if their class and their parts are.

    Subclasses are plain classes, which mypyc compiles to C structs: creating an instance costs a
    fifth of what a named tuple does.
    """

    __slots__ = ()

    def parts(self) -> tuple[object, ...]:
        """Return everything that equality depends on."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.parts() == other.parts()

    def __hash__(self) -> int:
        return hash(self.parts())

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.parts()!r}"


class TokenCredential(ValueObject):
    """A token as the request carried it. ``repr`` never shows the secret.

    ``account`` is the user name that was sent with it, which must be its own account's; empty if
    none was.
    """

    __slots__ = ("account", "form", "secret")

    def __init__(self, form: Form, secret: str, account: str = "") -> None:
        self.form: Final = form
        self.secret: Final = secret
        self.account: Final = account

    def parts(self) -> tuple[object, ...]:
        """See ``ValueObject``."""
        return self.form, self.secret, self.account

    def __repr__(self) -> str:
        return f"TokenCredential({self.form})"


class PasswordCredential(ValueObject):
    """An account name and a password (``core.basic_auth``). ``repr`` hides the password."""

    __slots__ = ("account", "form", "password")

    def __init__(self, account: str, password: str) -> None:
        self.account: Final = account
        self.password: Final = password
        self.form: Final = Form.BASIC

    def parts(self) -> tuple[object, ...]:
        """See ``ValueObject``."""
        return self.account, self.password

    def __repr__(self) -> str:
        return f"PasswordCredential({self.account})"


Credential = TokenCredential | PasswordCredential


class Denial(ValueObject):
    """A refusal: a value, never an exception.

    ``code`` is a stable code of ``sidecar.core.problems``. ``detail`` is a sentence for the caller
    that holds no part of a credential. ``allow`` lists the methods for ``Allow``, only with
    ``method_not_allowed`` (RFC 9110 section 15.5.6). ``status`` is for HTTP's own refinements of a
    code, such as 417; 0: the status that the code has (``problems.status_of``).
    """

    __slots__ = ("allow", "code", "detail", "retry_after_seconds", "status")

    def __init__(
        self,
        code: str,
        detail: str,
        retry_after_seconds: int | None = None,
        allow: tuple[str, ...] = (),
        status: int = 0,
    ) -> None:
        self.code: Final = code
        self.detail: Final = detail
        self.status: Final = status
        self.retry_after_seconds: Final = retry_after_seconds
        self.allow: Final = allow

    def parts(self) -> tuple[object, ...]:
        """See ``ValueObject``."""
        return self.code, self.detail, self.retry_after_seconds, self.allow, self.status

    def __hash__(self) -> int:  # cheap, as every refused request looks up its answer by it
        return hash(self.detail) + (self.retry_after_seconds or 0)


_PARTS_OF_RECORD: Final = (
    "id",
    "account",
    "name",
    "kind",
    "digest",
    "created_at",
    "expires_at",
    "paths",
    "denied_at",
    "granted_until",
)


class TokenRecord(ValueObject):
    """What the store knows of a token: everything but the token itself.

    ``digest`` is the SHA-256 (64 hex digits) of the token, or of its ``jti`` for a JWT. ``paths``
    are path patterns; if empty, the token may be used on every path of its account. ``denied_at``
    is set for a foreign JWT alone: the digest at which the store would hold its denial.
    ``granted_until`` is the original expiry of a token that was later given an earlier one, by
    rotation for example (infinite for an unlimited token); ``None`` if the expiry never changed.
    """

    __slots__ = _PARTS_OF_RECORD

    def __init__(  # noqa: PLR0913 - one for each field, as a dataclass would have it
        self,
        id: str,
        account: str,
        name: str,
        kind: TokenKind,
        digest: str,
        created_at: float,
        expires_at: float | None,
        paths: tuple[str, ...] = (),
        denied_at: str = "",
        granted_until: float | None = None,
    ) -> None:
        self.id: Final = id
        self.account: Final = account
        self.name: Final = name
        self.kind: Final = kind
        self.digest: Final = digest
        self.created_at: Final = created_at
        self.expires_at: Final = expires_at
        self.paths: Final = paths
        self.denied_at: Final = denied_at
        self.granted_until: Final = granted_until

    def parts(self) -> tuple[object, ...]:
        """See ``ValueObject``."""
        return (
            self.id,
            self.account,
            self.name,
            self.kind,
            self.digest,
            self.created_at,
            self.expires_at,
            self.paths,
            self.denied_at,
            self.granted_until,
        )

    @property
    def lifetime_seconds(self) -> float | None:
        """Return the lifetime it was created with, even if it ends early; ``None``: unlimited."""
        until = self.expires_at if self.granted_until is None else self.granted_until
        return None if until is None or until == math.inf else until - self.created_at

    def ending_by(self, end: float) -> TokenRecord:
        """Return the record with an expiry of at most ``end``, rounded down to a whole second.

        ``granted_until`` keeps the original expiry.
        """
        sooner = end if self.expires_at is None else min(end, self.expires_at)
        until = self.expires_at if self.granted_until is None else self.granted_until
        return self.replace(
            expires_at=float(math.floor(sooner)), granted_until=math.inf if until is None else until
        )

    def replace(self, **changes: Any) -> TokenRecord:
        """Return the record with these fields changed."""
        parts: dict[str, Any] = dict(zip(_PARTS_OF_RECORD, self.parts(), strict=True))
        return TokenRecord(**{**parts, **changes})

    def is_expired(self, now: float) -> bool:
        """Tell whether the record has expired at ``now`` (Unix seconds)."""
        return self.expires_at is not None and self.expires_at <= now


class LastUse(NamedTuple):
    """When a token was last used (Unix seconds, to the minute), and from which client address."""

    at: float
    client: str


Uses = Sequence[tuple[LastUse, Sequence[str]]]
"""Last uses, each with the digests of the tokens that it applies to."""
