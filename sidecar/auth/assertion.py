"""Signed assertions: a JWT tells the upstream who is calling, for which upstream, and until when.

The short-lived JWT is sent beside the identity headers, so an upstream need not trust the network.
One assertion serves many requests of a caller; a new one is signed once half its life is over.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from sidecar.core.jws import write_token
from sidecar.core.keys import Key

# Distinguishes an assertion from a caller's own JWT, signed with the same key (RFC 8725, 3.11).
MEDIA_TYPE = "assertion+jwt"
CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class AssertionSubject:
    """Who an assertion is about: the account, its form of credential, and its token if any."""

    account: str
    method: str
    token_id: str | None = None
    token_name: str | None = None


class AssertionSigner:
    """Signs assertions and caches the fresh ones, at most ``capacity`` of them.

    Raises ``ValueError`` for a shared secret, which no upstream could verify with the published
    keys, for a key without its private half, and for a lifetime under 2 seconds.
    """

    def __init__(
        self, issuer: str, key: Key, lifetime_seconds: float, capacity: int = CAPACITY
    ) -> None:
        if key.is_secret or not key.has_private_half:
            raise ValueError(
                "assertions need a key with a private half that signs and a public one to publish:"
                " EdDSA, ES256, RS256 or PS256"
            )
        if lifetime_seconds < 2:
            raise ValueError("an assertion lives for at least 2 seconds")
        self._issuer = issuer
        self._key = key
        self._lifetime_seconds = math.floor(lifetime_seconds)
        self._capacity = capacity
        self._kept: OrderedDict[tuple[AssertionSubject, str], tuple[float, str]] = OrderedDict()

    def assertion(self, subject: AssertionSubject, audience: str, now: float) -> str:
        """Return a JWT for ``audience`` (the upstream's name) with at least half its life left.

        Claims: ``iss``, ``aud``, ``sub`` (the account), ``iat``, ``exp``, ``method``, and
        ``token_id`` and ``token_name`` if a token was used. It has no ``jti``, as many requests
        share it and the sidecar never accepts it as a token.
        """
        caller = (subject, audience)
        kept = self._kept.get(caller)
        if kept is not None and now < kept[0]:
            return kept[1]
        signed = write_token(self._claims(subject, audience, now), self._key, MEDIA_TYPE)
        self._keep(caller, now + self._lifetime_seconds / 2, signed)
        return signed

    def _claims(self, subject: AssertionSubject, audience: str, now: float) -> dict[str, object]:
        issued_at = math.floor(now)
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": audience,
            "sub": subject.account,
            "iat": issued_at,
            "exp": issued_at + self._lifetime_seconds,
            "method": subject.method,
        }
        if subject.token_id is not None:
            claims["token_id"] = subject.token_id
        if subject.token_name is not None:
            claims["token_name"] = subject.token_name
        return claims

    def _keep(self, caller: tuple[AssertionSubject, str], renew_at: float, signed: str) -> None:
        self._kept[caller] = (renew_at, signed)
        self._kept.move_to_end(caller)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
