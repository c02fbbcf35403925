"""A foreign issuer's JWT is denied by a record: while the record lives, its ``jti`` is refused.

The record belongs to an account of its own and not to the one that the JWT names, because the
holder of that one could find the record among its tokens and revoke it.
"""

from __future__ import annotations

import math
import os
import re
import time
from typing import TYPE_CHECKING

from sidecar.core import tokens
from sidecar.core.errors import NameTaken, UsageError
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.token_rules import DAY_SECONDS, MAX_NAME_CHARS, check_days

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.store.port import TokenStore

OWNER = "@denied"
"""The account that denials belong to. It can't be used while the configuration declares it."""

DENIED_DAYS = 400
_is_jti = re.compile(r"[!-~]{1,256}").fullmatch


async def deny(
    store: TokenStore, settings: Settings, issuer: str, jti: str, days: int
) -> TokenRecord:
    """Refuse a foreign JWT from now on, for ``days`` (0: for ever); return the record that says so.

    Denying it again changes nothing. Raises ``UsageError`` for an issuer that is not trusted anyway
    and for what is no ``jti``, and ``StoreUnavailable``.
    """
    from sidecar.auth.jwt_verifier import foreign_denial_key

    _check(settings, issuer, jti)
    check_days(days)
    record = _record(foreign_denial_key(issuer, jti), f"{jti} of {issuer}", days)
    try:
        await store.create(record)
    except NameTaken:
        return await store.look_up(record.digest) or record
    return record


def _check(settings: Settings, issuer: str, jti: str) -> None:
    if issuer == settings.jwt.issuer:
        raise UsageError("this issuer is the sidecar itself: its JWTs are revoked by their ID")
    trusted = [one.issuer for one in settings.jwt.trusted_issuers]
    if issuer not in trusted:
        listed = ", ".join(trusted) or "none"
        raise UsageError(f"no JWT of this issuer is accepted; jwt.trusted_issuers has: {listed}")
    if not _is_jti(jti):
        raise UsageError("a jti is 1 to 256 visible ASCII characters")
    if OWNER in settings.accounts:
        raise UsageError(f"the account {OWNER} is declared, and denials need this name: rename it")


def _record(digest: str, told: str, days: int) -> TokenRecord:
    """Return the denial; its name begins with the digest, so that no two have the same."""
    created_at = float(math.floor(time.time()))
    return TokenRecord(
        id=tokens.new_id(os.urandom),
        account=OWNER,
        name=f"{digest[:12]} {told}"[:MAX_NAME_CHARS],
        kind=TokenKind.JWT,
        digest=digest,
        created_at=created_at,
        expires_at=created_at + days * DAY_SECONDS if days else None,
    )
