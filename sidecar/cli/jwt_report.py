"""What ``sidecar token inspect`` reports of a JWT: whether it is valid, and its claims.

The claims of an unverified JWT are quoted as claims, with the reason why it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.core import tokens
from sidecar.core.jws import JwtRefused, read_token
from sidecar.core.model import Denial, TokenKind, TokenRecord
from sidecar.core.times import optional_rfc3339

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.core.signed_tokens import VerifiedToken
    from sidecar.store.port import TokenStore

_MAX_CHARS = 100
_LATEST_TIME = 253_402_300_799  # 9999-12-31T23:59:59Z


@dataclass(frozen=True, slots=True)
class JwtReport:
    """What was found; one of the three is set.

    ``record``: the JWT is the sidecar's own and live. ``foreign``: it is a trusted issuer's and not
    denied. ``problem``: it is neither, in a sentence that holds no part of the signature.
    """

    record: TokenRecord | None = None
    foreign: VerifiedToken | None = None
    problem: str = ""


async def judge_jwt(token: str, settings: Settings, store: TokenStore) -> JwtReport:
    """Judge a JWT as the proxy does. Raises a ``Fault`` when the answer can't be known."""
    from sidecar.runtime.build import build_jwt

    verified = await build_jwt(settings).issuers.verify(token, time.time())
    if isinstance(verified, Denial):
        return JwtReport(problem=f"{_quote_claims(token)}; it is refused: {verified.detail}")
    return await _ask_store(verified, store)


def as_object(verified: VerifiedToken) -> dict[str, object]:
    """Return a foreign JWT with the keys of a token; what it lacks is ``None``.

    ``id`` is the JWT's ``jti``, by which it can be denied.
    """
    return {
        "id": verified.jti,
        "account": verified.account,
        "name": None,
        "kind": str(TokenKind.JWT),
        "created_at": None,
        "expires_at": optional_rfc3339(verified.expires_at),
        "last_used_at": None,
        "paths": [],
        "issuer": verified.issuer,
    }


async def _ask_store(verified: VerifiedToken, store: TokenStore) -> JwtReport:
    from sidecar.auth.jwt_verifier import foreign_denial_key

    described = _describe(verified.issuer, verified.account, verified.expires_at)
    if verified.is_foreign:
        key = foreign_denial_key(verified.issuer, verified.jti) if verified.jti else ""
        if key and await store.look_up(key) is not None:
            return JwtReport(problem=f"{described}; its signature is good, but its jti is denied")
        return JwtReport(foreign=verified)
    record = await store.look_up(tokens.digest(verified.jti or ""))
    if record is None or record.kind is not TokenKind.JWT or record.account != verified.account:
        return JwtReport(problem=f"{described}; its signature is good, but it is revoked")
    return JwtReport(record=record)


def _quote_claims(token: str) -> str:
    """Return a JWT's unverified claims in a sentence."""
    try:
        claims: Mapping[str, object] = read_token(token).claims
    except JwtRefused:
        return "this looks like a JWT"
    end = claims.get("exp")
    is_number = isinstance(end, int | float) and not isinstance(end, bool)
    is_time = is_number and 0 <= end <= _LATEST_TIME
    return _describe(claims.get("iss"), claims.get("sub"), end if is_time else None)


def _describe(issuer: object, account: object, expires_at: object) -> str:
    end = optional_rfc3339(expires_at) if isinstance(expires_at, int | float) else None
    until = f"expires {end}" if end else "without an expiry"
    return f"this is a JWT of issuer {_quote(issuer)} for account {_quote(account)}, {until}"


def _quote(value: object) -> str:
    """Return a claim, printable and short."""
    if not isinstance(value, str):
        return "(none)"
    text = "".join(char if char.isprintable() else "?" for char in value)
    return repr(text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…")
