"""Caches verified JWTs, so that a signature is verified once per token and minute.

The cache holds what a JWT proves, by the digest of the JWT. It never holds whether a request may
pass: the store (by the ``jti``) and the policy decide that each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sidecar.auth.issuers import Issuers
from sidecar.core.model import Denial, TokenKind, TokenRecord
from sidecar.core.policy import Principal
from sidecar.core.signed_tokens import VerifiedToken
from sidecar.core.tokens import digest
from sidecar.core.unclaimed_jwts import NOT_TRUSTED, UnclaimedJwt

_KEPT: Final = 10_000
_NO_KEYS: Final[Mapping[str, object]] = MappingProxyType({"keys": ()})
_BELIEVED_SECONDS: Final = 60.0  # so long may a JWT outlive a key that its issuer has withdrawn
_ID_CHARS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")


@dataclass(frozen=True, slots=True)
class JwtProof:
    """What a JWT proves. ``key`` is the digest to look it up by in the store.

    For the sidecar's own JWT, ``key`` is the digest of its ``jti``, and ``record`` is ``None``, as
    the store has the record. For a foreign JWT, ``record`` is made of its claims, and a record in
    the store at ``key`` denies it.
    """

    account: str
    key: str
    believed_until: float
    record: TokenRecord | None


class JwtVerifier:
    """Verifies JWTs with one set of keys and issuers; another set needs another verifier."""

    def __init__(self, issuers: Issuers, key_set: Mapping[str, object] = _NO_KEYS) -> None:
        """``key_set`` is the JWK Set that publishes the sidecar's own keys."""
        self.key_set = key_set
        self.issuers = issuers
        self._proofs: dict[str, JwtProof] = {}

    def cached_proof(self, token_digest: str, now: float) -> JwtProof | None:
        """Return what a JWT with this digest proved lately; ``None``: verify it."""
        proof = self._proofs.get(token_digest)
        return proof if proof is not None and proof.believed_until > now else None

    async def verify(
        self, token: str, token_digest: str, now: float
    ) -> JwtProof | UnclaimedJwt | Denial:
        """Verify a JWT. Raises ``IssuerUnavailable`` if its issuer's keys are unavailable."""
        proof = self.cached_proof(token_digest, now)
        if proof is not None:
            return proof
        verified = await self.issuers.verify(token, now)
        if not isinstance(verified, VerifiedToken):
            return verified
        proof = _prove(verified, token_digest, now)
        self._proofs.pop(token_digest, None)
        if len(self._proofs) >= _KEPT:
            del self._proofs[next(iter(self._proofs))]
        self._proofs[token_digest] = proof
        return proof

    async def verify_again(self, token: str, began: Principal, now: float) -> Denial | None:
        """Return the denial of a JWT that let ``began`` in under other keys, or ``None``.

        An imported JWT may, while no key and no issuer claims it. Raises as ``verify`` does.
        """
        verdict = await self.verify(token, digest(token), now)
        was_imported = began.record is not None and began.record.kind is TokenKind.IMPORTED
        if isinstance(verdict, UnclaimedJwt):
            return None if was_imported else NOT_TRUSTED
        if isinstance(verdict, Denial):
            return verdict
        if was_imported or verdict.account != began.account:
            return Denial("invalid_token", "The token stands for something else by now.")
        return None


def foreign_denial_key(issuer: str, jti: str) -> str:
    """Return the digest at which a record denies a foreign issuer's JWT by its ``jti``."""
    return digest(f"denied\n{issuer}\n{jti}")


def _prove(verified: VerifiedToken, token_digest: str, now: float) -> JwtProof:
    jti = verified.jti
    until = now + _BELIEVED_SECONDS
    if verified.expires_at is not None:
        until = min(until, verified.expires_at)
    if not verified.is_foreign:
        return JwtProof(verified.account, digest(jti or ""), until, None)
    key = foreign_denial_key(verified.issuer, jti) if jti else ""
    record = TokenRecord(
        id=jti if jti and len(jti) <= 64 and _ID_CHARS.issuperset(jti) else token_digest[:14],
        account=verified.account,
        name=verified.issuer[:100],
        kind=TokenKind.JWT,
        digest="",
        created_at=now,
        expires_at=verified.expires_at,
        denied_at=key,
    )
    return JwtProof(verified.account, key, until, record)
