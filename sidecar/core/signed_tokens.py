"""Which JWTs are valid: the key that must have signed them, and what their claims must say.

The order of checks is fixed: well-formed (``jws``), a known issuer, its keys by ``kid``, of these
the ones bound to the header's algorithm, the signature, and only then the claims. Whether a valid
JWT has been revoked is for the store to say, by its ``jti``; whether one that no issuer claims was
imported, by its digest (``unclaimed_jwts``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.core.account_claims import SUBJECT, AccountClaim
from sidecar.core.jws import JwtRefused, SignedToken, read_token, write_token
from sidecar.core.keys import Key, OwnKeys
from sidecar.core.model import Denial, TokenRecord
from sidecar.core.numeric_dates import read_end, read_time
from sidecar.core.unclaimed_jwts import NOT_TRUSTED, Claimants, UnclaimedJwt, read_unclaimed

MAX_AUDIENCES = 64
MAX_CANDIDATES = 8
"""How many keys are tried for one token that its ``kid`` and algorithm leave open."""

_is_token_id = re.compile(r"[!-~]{1,256}").fullmatch


class KeySource(Protocol):
    """An issuer's keys as known at this moment."""

    def find(self, key_id: str | None) -> Sequence[Key]:
        """Return the keys that a token with this ``kid``, or with none, may be signed with."""

    def find_unnamed(self) -> Sequence[Key]:
        """Return the keys without a ``kid``: a token whose ``kid`` no key has may be theirs."""


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer whose tokens are accepted, and how they name the account."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    keys: KeySource
    account_claim: AccountClaim = SUBJECT


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a JWT proves. ``expires_at`` is when it stops being accepted, the leeway included."""

    account: str
    jti: str | None
    expires_at: float | None
    is_foreign: bool
    issuer: str


@dataclass(frozen=True, slots=True)
class NeedsKeys:
    """No verdict yet: the foreign issuer may have published the key since the last fetch."""

    issuer: str
    key_id: str | None


class SignedTokens:
    """Verifies JWTs and signs the sidecar's own. Pure: keys and clock are passed in.

    ``keys`` are the sidecar's own; the first one signs. Raises ``ValueError`` for keys that can't
    be used together, and for an issuer that is named twice.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        leeway_seconds: float,
        keys: tuple[Key, ...],
        trusted: Iterable[TrustedIssuer] = (),
    ) -> None:
        algorithms = tuple({key.algorithm for key in keys})
        own = TrustedIssuer(issuer, audience, algorithms, OwnKeys(keys))
        self._own = own
        self._keys = keys
        self._leeway_seconds = leeway_seconds
        self._issuers = {own.issuer: own}
        for foreign in trusted:
            if foreign.issuer in self._issuers:
                raise ValueError(f"issuer {foreign.issuer!r} is named twice")
            self._issuers[foreign.issuer] = foreign
        self._claimants = Claimants(
            own.issuer, (key.id for key in keys), self._issuers.keys() - {own.issuer}
        )

    def verify_now(
        self, token: str, now: float
    ) -> VerifiedToken | UnclaimedJwt | Denial | NeedsKeys:
        """Verify ``token`` at ``now`` (Unix seconds) with the known keys.

        Only a foreign issuer's token gives ``NeedsKeys``; ``issuers.Issuers.verify`` fetches keys.
        """
        try:
            return self._judge(token, now)
        except JwtRefused as refusal:
            return Denial("invalid_token", str(refusal))

    def sign(self, record: TokenRecord) -> str:
        """Return a JWT whose ``jti`` is the id of ``record``; ``ValueError`` without a key."""
        if not self._keys:
            raise ValueError("no key to sign with: jwt.keys is empty")
        claims: dict[str, object] = {
            "iss": self._own.issuer,
            "aud": self._own.audience,
            "sub": record.account,
            "jti": record.id,
            "iat": math.floor(record.created_at),
        }
        if record.expires_at is not None:
            claims["exp"] = math.floor(record.expires_at)
        return write_token(claims, self._keys[0])

    def _judge(self, token: str, now: float) -> VerifiedToken | UnclaimedJwt | NeedsKeys:
        signed = read_token(token)
        if not self._claimants.find(signed):
            return read_unclaimed(signed, now)
        issuer = self._issuer_of(signed)
        if signed.algorithm not in issuer.algorithms:
            raise JwtRefused("The token's algorithm is not one of its issuer's.")
        keys = issuer.keys.find(signed.key_id)
        if keys or issuer is self._own:
            _check_signature(signed, keys)
        elif not _is_signed_by_one(signed, _fitting(signed, issuer.keys.find_unnamed())):
            return NeedsKeys(issuer.issuer, signed.key_id)
        return self._accept(signed.claims, issuer, now)

    def _issuer_of(self, signed: SignedToken) -> TrustedIssuer:
        named = signed.claims.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise JwtRefused(NOT_TRUSTED.detail)
        return issuer

    def _accept(
        self, claims: Mapping[str, object], issuer: TrustedIssuer, now: float
    ) -> VerifiedToken:
        is_foreign = issuer is not self._own
        _check_audience(claims, issuer.audience)
        _check_begun(claims, now + self._leeway_seconds)
        # The leeway is for foreign clocks; the sidecar's own tokens must not live longer by it.
        leeway_seconds = self._leeway_seconds if is_foreign else 0
        return VerifiedToken(
            account=_read_account(claims, issuer.account_claim),
            jti=_read_token_id(claims, is_required=not is_foreign),
            expires_at=_read_end(claims, leeway_seconds, now, is_required=is_foreign),
            is_foreign=is_foreign,
            issuer=issuer.issuer,
        )


def _check_signature(signed: SignedToken, keys: Sequence[Key]) -> None:
    fitting = _fitting(signed, keys)
    if not fitting:
        raise JwtRefused("The token's signing key is unknown.")
    if _is_signed_by_one(signed, fitting):
        return
    if len(fitting) > MAX_CANDIDATES:
        raise JwtRefused(
            f"The token's signature is not valid for the first {MAX_CANDIDATES} of "
            f"{len(fitting)} keys that its kid and algorithm leave."
        )
    raise JwtRefused("The token's signature is not valid.")


def _fitting(signed: SignedToken, keys: Sequence[Key]) -> list[Key]:
    return [key for key in keys if key.algorithm == signed.algorithm]


def _is_signed_by_one(signed: SignedToken, keys: list[Key]) -> bool:
    return any(
        key.is_signature(signed.signature, signed.signing_input) for key in keys[:MAX_CANDIDATES]
    )


def _check_audience(claims: Mapping[str, object], expected: str) -> None:
    named = claims.get("aud")
    audiences = named if isinstance(named, list) else [named]
    if len(audiences) > MAX_AUDIENCES or not all(isinstance(name, str) for name in audiences):
        raise JwtRefused("The token's aud is neither a string nor a list of strings.")
    if expected not in audiences:
        raise JwtRefused("The token is for another audience.")


def _check_begun(claims: Mapping[str, object], latest: float) -> None:
    """Refuse a token from the future; ``nbf`` and ``iat`` are compared exactly, never rounded."""
    for name in ("nbf", "iat"):
        if name in claims and read_time(claims, name) > latest:
            raise JwtRefused(f"The token's {name} is in the future.")


def _read_end(
    claims: Mapping[str, object], leeway_seconds: float, now: float, *, is_required: bool
) -> float | None:
    if "exp" not in claims and not is_required:
        return None  # an unlimited token of the sidecar's own: its record in the store decides
    return read_end(claims, leeway_seconds, now)


def _read_account(claims: Mapping[str, object], claim: AccountClaim) -> str:
    if not isinstance(claims.get("sub", ""), str):
        raise JwtRefused("The token's sub is not a string.")
    return claim.read(claims)


def _read_token_id(claims: Mapping[str, object], *, is_required: bool) -> str | None:
    if "jti" not in claims and not is_required:
        return None
    value = claims.get("jti")
    if not isinstance(value, str) or not _is_token_id(value):
        raise JwtRefused("The token's jti is not 1 to 256 visible ASCII characters.")
    return value
