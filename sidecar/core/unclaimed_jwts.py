"""Which JWTs may be imported: those that no key and no issuer of the configuration claims.

An imported JWT is known by the digest of its exact characters, and its record decides: no key that
could verify it is known here. A JWT that a configured key or issuer claims is never looked up so,
because that key judges it. The rule depends on the JWT and the configuration alone, not on which
keys an issuer publishes at the moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.core.jws import JwtRefused, SignedToken, read_token
from sidecar.core.model import Denial
from sidecar.core.numeric_dates import read_end

NOT_TRUSTED = Denial("invalid_token", "The token's issuer is not trusted.")
"""The answer to a JWT that nothing claims and that was not imported."""


@dataclass(frozen=True, slots=True)
class UnclaimedJwt:
    """A well-formed JWT that nothing in the configuration claims: refused unless it was imported.

    ``expires_at`` is the end that its own ``exp`` sets, in Unix seconds and without leeway;
    ``None``: it sets none.
    """

    expires_at: float | None


class Claimants:
    """The keys and the issuers that a configuration has: whose JWTs they are judged by signature.

    ``key_ids`` are the ``kid``s of the sidecar's own keys, ``own_issuer`` is the ``iss`` that goes
    with them; without a key, it claims nothing. ``trusted`` are the other issuers.
    """

    def __init__(
        self, own_issuer: str, key_ids: Iterable[str | None], trusted: Iterable[str] = ()
    ) -> None:
        self._key_ids = frozenset(key_ids)
        self._issuers = frozenset((*trusted, own_issuer) if self._key_ids else trusted)

    def find(self, signed: SignedToken) -> str:
        """Return what claims a JWT, for a message; empty if nothing does."""
        issuer = signed.claims.get("iss")
        if isinstance(issuer, str) and issuer in self._issuers:
            return f"issuer {issuer!r}"
        if signed.key_id is not None and signed.key_id in self._key_ids:
            return f"key {signed.key_id!r}"
        return ""

    def read_importable(self, token: str, now: float) -> UnclaimedJwt:
        """Return what an importable JWT says of its end; raise ``JwtRefused`` if it is none.

        The reason is for the admin who imports it.
        """
        signed = read_token(token)
        claimant = self.find(signed)
        if claimant:
            raise JwtRefused(f"The configuration has {claimant}, by which it is judged instead.")
        return read_unclaimed(signed, now)


NO_CLAIMANTS = Claimants("", ())
"""Those of a configuration without keys and trusted issuers."""


def read_unclaimed(signed: SignedToken, now: float) -> UnclaimedJwt:
    """Return what is to be known of a JWT that nothing claims. Raises ``JwtRefused``.

    An ``exp`` of ``null`` is none: some systems write it for an unlimited JWT.
    """
    if signed.algorithm.lower() == "none":
        raise JwtRefused("The token is not signed.")
    ends = signed.claims.get("exp") is not None
    return UnclaimedJwt(read_end(signed.claims, 0, now) if ends else None)
