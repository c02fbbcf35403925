"""Denies a foreign issuer's JWT: while a record of the denial lives, the JWT's ``jti`` is refused.

The record belongs to an account of its own, not to the one that the JWT names: otherwise that
account's holder could find the denial among its tokens and revoke it.
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

DENIALS_ACCOUNT = "@denied"
"""The account that denials belong to; nothing can be denied while the configuration declares it."""

DENIED_DAYS = 400
_is_jti = re.compile(r"[!-~]{1,256}").fullmatch


async def deny(
    store: TokenStore, settings: Settings, issuer: str, jti: str, days: int
) -> TokenRecord:
    """Refuse a foreign JWT from now on, for ``days`` (0: for ever); return the record that says so.

    Denying it again changes nothing. Raises ``StoreUnavailable``, and ``UsageError`` for an issuer
    that is not trusted or a malformed ``jti``.
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
        raise UsageError("this issuer is the sidecar itself: revoke its JWTs by their id")
    trusted = [one.issuer for one in settings.jwt.trusted_issuers]
    if issuer not in trusted:
        listed = ", ".join(trusted) or "none"
        raise UsageError(f"this issuer is not trusted; name one of jwt.trusted_issuers: {listed}")
    if not _is_jti(jti):
        raise UsageError("give a jti of 1 to 256 visible ASCII characters")
    if DENIALS_ACCOUNT in settings.known_accounts:
        raise UsageError(f"rename the account {DENIALS_ACCOUNT}: denials are kept under this name")


def _record(digest: str, subject: str, days: int) -> TokenRecord:
    """Return the denial's record; its name begins with the digest, so that it is unique."""
    created_at = float(math.floor(time.time()))
    return TokenRecord(
        id=tokens.new_id(os.urandom),
        account=DENIALS_ACCOUNT,
        name=f"{digest[:12]} {subject}"[:MAX_NAME_CHARS],
        kind=TokenKind.JWT,
        digest=digest,
        created_at=created_at,
        expires_at=created_at + days * DAY_SECONDS if days else None,
    )
