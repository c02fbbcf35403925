"""Says what a foreign JWT's account claim holds, and which account it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.config.diagnostics import near_miss
from sidecar.core.account_claims import AccountClaim
from sidecar.core.jws import JwtRefused, read_token

if TYPE_CHECKING:
    from sidecar.config.settings import Settings

_MAX_CHARS = 100
_MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class ClaimedAccount:
    """An issuer's account claim, and the claims of a JWT, which need not be valid."""

    claim: AccountClaim
    claims: Mapping[str, object]
    issuer_index: int
    """The issuer's place in ``jwt.trusted_issuers``."""

    @property
    def issuer_key(self) -> str:
        """The issuer's place in the configuration."""
        return f"jwt.trusted_issuers[{self.issuer_index}]"

    @property
    def values(self) -> tuple[str, ...] | None:
        """What the claim holds; ``None`` if it is missing or holds no text."""
        return self.claim.values(self.claims)

    def __str__(self) -> str:
        """Return a clause without a full stop."""
        values = self.values
        if values is None:
            return self._describe_missing()
        held = f"its claim {self.claim} holds {_listed(values) or 'nothing'}"
        mapping, accounts = self.claim.accounts, f"{self.issuer_key}.accounts"
        if mapping is None:
            return held
        try:
            return f"{held}, which is account {self.claim.read(self.claims)} in {accounts}"
        except JwtRefused:
            pass
        if any(value in mapping for value in values):
            return f"{held}, which are several accounts in {accounts}"
        near = near_miss(values[0], mapping) if len(values) == 1 else None
        hint = f" (did you mean {quote(near)}?)" if near else ""
        return f"{held}, which is not in {accounts}{hint}"

    def _describe_missing(self) -> str:
        text = f"it has no claim {self.claim} that holds text"
        if len(self.claim.path) == 1 and self.claim.path[0] not in self.claims:
            text += f"; its claims are {_listed(sorted(self.claims))}"
            text += ", and a path to one within another is written as a list"
        return f"{text} ({self.issuer_key}.account_claim)"


def find_claimed(token: str, settings: Settings) -> ClaimedAccount | None:
    """Return what a JWT says of its account; ``None`` unless it names a trusted issuer."""
    try:
        claims = read_token(token).claims
    except JwtRefused:
        return None
    for number, issuer in enumerate(settings.jwt.trusted_issuers):
        if issuer.issuer == claims.get("iss"):
            claim = AccountClaim(issuer.account_claim, issuer.accounts)
            return ClaimedAccount(claim, claims, number)
    return None


def quote(value: object) -> str:
    """Return a claim, printable and short."""
    if not isinstance(value, str):
        return "(none)"
    text = "".join(char if char.isprintable() else "?" for char in value)
    return repr(text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…")


def _listed(values: tuple[str, ...] | list[str]) -> str:
    more = ", …" if len(values) > _MOST_NAMES else ""
    return ", ".join(map(quote, values[:_MOST_NAMES])) + more
