"""The nouns of the domain: plain, frozen values that every other part passes around.

Times are Unix seconds (``float``); ``None`` for an expiry means *unlimited*.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Form(StrEnum):
    """How a credential travelled in a request (section "Credential forms" of docs/behaviour.md)."""

    BEARER = "bearer"
    HEADER = "header"
    QUERY = "query"
    BASIC = "basic"


ALL_FORMS: frozenset[Form] = frozenset(Form)


class Kind(StrEnum):
    """What a token is: made here and opaque, brought from the replaced system, or a signed JWT."""

    ACCESS = "access"
    IMPORTED = "imported"
    JWT = "jwt"


class TokenCredential(NamedTuple):
    """A token as the request carried it. ``repr`` never shows the secret."""

    form: Form
    secret: str

    def __repr__(self) -> str:
        return f"TokenCredential({self.form})"


class PasswordCredential(NamedTuple):
    """An account name and a password from HTTP Basic (RFC 7617). ``repr`` hides the latter."""

    account: str
    password: str

    def __repr__(self) -> str:
        return f"PasswordCredential({self.account})"

    @property
    def form(self) -> Form:
        """``basic``, always."""
        return Form.BASIC


Credential = TokenCredential | PasswordCredential


class Denial(NamedTuple):
    """A refusal: a value, never an exception.

    ``code`` is one of the stable codes of ``sidecar.answers``; ``detail`` is a sentence for the
    caller that holds no part of a credential.
    """

    code: str
    detail: str
    retry_after_seconds: int | None = None
    allow: tuple[str, ...] = ()
    """The methods for ``Allow``; only with ``method_not_allowed`` (RFC 9110 section 15.5.6)."""


class TokenRecord(NamedTuple):
    """What the store knows of a token: everything but the token.

    ``digest`` is the SHA-256 (64 hex digits) of the token, or of its ``jti`` for a JWT.
    ``paths`` are path patterns; empty means every path its account may use.
    """

    id: str
    account: str
    name: str
    kind: Kind
    digest: str
    created_at: float
    expires_at: float | None
    paths: tuple[str, ...] = ()
    denied_at: str = ""
    """The digest at which the store would hold the denial of a foreign JWT; no other has one."""

    def is_expired(self, now: float) -> bool:
        """Tell whether the record's own expiry has passed at ``now`` (Unix seconds)."""
        return self.expires_at is not None and self.expires_at <= now


class LastUse(NamedTuple):
    """When (Unix seconds, to within a minute) and from which client address a token last came."""

    at: float
    client: str
