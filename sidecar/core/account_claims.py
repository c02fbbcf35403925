"""Which account a foreign JWT is for: the claim that names it, and what its value stands for.

Issuers name callers in their own way (``system:serviceaccount:shop:erp``, ``auth0|5f7c8e``,
``spiffe://example.org/erp``, a GUID) and in their own place (``azp``, ``https://example.com/shop``,
``kubernetes.io`` / ``serviceaccount`` / ``name``). So the claim is a path whose steps are names to
the letter, dots and slashes included, and its value may be mapped to an account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.core.account_names import is_account_name
from sidecar.core.jws import JwtRefused

_is_index = re.compile(r"0|[1-9][0-9]{0,3}").fullmatch


@dataclass(frozen=True, slots=True)
class AccountClaim:
    """Where an issuer's JWTs name the account.

    ``path`` leads to the claim: each step is the name of a member, or the place of an item in a
    list, from 0. ``accounts`` maps what the claim holds to accounts, and then only the values that
    it lists count: a caller who may choose a name at the issuer must not become whichever account
    has it. Without it, the claim holds the account's name itself.
    """

    path: tuple[str, ...] = ("sub",)
    accounts: Mapping[str, str] | None = None

    def __str__(self) -> str:
        return " / ".join(self.path)

    def values(self, claims: Mapping[str, object]) -> tuple[str, ...] | None:
        """Return the texts that the claim holds; ``None`` if it is missing or holds anything else.

        A whole number counts as its decimal digits, and a list as the texts in it.
        """
        found = _find(claims, self.path)
        texts = [_text(item) for item in (found if isinstance(found, list) else [found])]
        known = tuple(text for text in texts if text is not None)
        return known if len(known) == len(texts) else None

    def read(self, claims: Mapping[str, object]) -> str:
        """Return the account; raise ``JwtRefused`` unless the claim names exactly one."""
        values = self.values(claims)
        if values is None:
            raise JwtRefused(f"The token has no claim {self} that holds text.")
        if self.accounts is not None:
            return _map(values, self.accounts, self)
        if len(values) != 1:
            raise JwtRefused(f"The token's claim {self} is a list of {len(values)} values.")
        if not is_account_name(values[0]):
            raise JwtRefused(f"The token's claim {self} is not the name of an account.")
        return values[0]


SUBJECT = AccountClaim()
"""The subject is the account's name: how the sidecar's own JWTs name it, and others by default."""


def _map(values: tuple[str, ...], accounts: Mapping[str, str], claim: AccountClaim) -> str:
    named = {accounts[value] for value in values if value in accounts}
    if not named:
        raise JwtRefused(f"The token's claim {claim} holds nothing that stands for an account.")
    if len(named) > 1:
        raise JwtRefused(f"The token's claim {claim} stands for several accounts.")
    return named.pop()


def _find(claims: Mapping[str, object], path: tuple[str, ...]) -> object:
    """Return what is at a path; ``None`` if there is nothing."""
    value: object = claims
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and _is_index(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
