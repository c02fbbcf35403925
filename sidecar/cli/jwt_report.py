"""What ``sidecar token inspect`` reports of a JWT: whether it is valid, and its claims.

The claims of an unverified JWT are quoted as claims, with the reason why it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.cli.claimed_account import ClaimedAccount, find_claimed, quote
from sidecar.core import tokens
from sidecar.core.jws import JwtRefused, read_token
from sidecar.core.model import Denial, TokenKind, TokenRecord
from sidecar.core.numeric_dates import LAST_SECOND
from sidecar.core.times import optional_rfc3339, to_rfc3339
from sidecar.core.unclaimed_jwts import NOT_TRUSTED, UnclaimedJwt

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.core.signed_tokens import VerifiedToken
    from sidecar.store.port import TokenStore


@dataclass(frozen=True, slots=True)
class JwtReport:
    """What was found; one of the three is set.

    ``record``: the JWT is the sidecar's own or was imported, and is live. ``foreign``: it is a
    trusted issuer's and not denied. ``problem``: it is neither, in a sentence that holds no part of
    the signature.
    """

    record: TokenRecord | None = None
    foreign: VerifiedToken | None = None
    problem: str = ""


async def judge_jwt(token: str, settings: Settings, store: TokenStore) -> JwtReport:
    """Judge a JWT as the proxy does. Raises a ``Fault`` when the answer can't be known."""
    from sidecar.runtime.build import build_jwt

    verified = await build_jwt(settings).issuers.verify(token, time.time())
    if isinstance(verified, UnclaimedJwt):
        return await _find_imported(token, store)
    if isinstance(verified, Denial):
        claimed = find_claimed(token, settings)
        text = f"{_quote_claims(token)}; it is refused: {verified.detail}"
        return JwtReport(
            problem=text if claimed is None else f"{text} As to its account, {claimed}."
        )
    return await _ask_store(verified, store)


def as_object(verified: VerifiedToken, claimed: ClaimedAccount | None) -> dict[str, object]:
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
        "account_claim": None if claimed is None else list(claimed.claim.path),
        "claimed": None if claimed is None else list(claimed.values or ()),
    }


async def _find_imported(token: str, store: TokenStore) -> JwtReport:
    record = await store.look_up(tokens.digest(token))
    if record is not None and record.kind is TokenKind.IMPORTED:
        return JwtReport(record=record)
    return JwtReport(
        problem=f"{_quote_claims(token)}; it is refused: {NOT_TRUSTED.detail} It was not "
        "imported either, or has expired or been revoked since"
    )


async def _ask_store(verified: VerifiedToken, store: TokenStore) -> JwtReport:
    from sidecar.auth.jwt_verifier import foreign_denial_key

    whom = f"account {quote(verified.account)}"
    described = _describe(verified.issuer, whom, verified.expires_at)
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
    whom = f"subject {quote(claims.get('sub'))}"
    return _describe(claims.get("iss"), whom, end if is_number else None)


def _describe(issuer: object, whom: str, expires_at: object) -> str:
    until = "without an expiry"
    if isinstance(expires_at, int | float) and 0 <= expires_at <= LAST_SECOND:
        until = f"expires {to_rfc3339(expires_at)}"
    return f"this is a JWT of issuer {quote(issuer)} for {whom}, {until}"
