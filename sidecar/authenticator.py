"""Who is calling: a credential in, a ``Principal`` or a denial out.

``recall`` answers at once, from what is known in this process; ``identify`` asks whoever must be
asked. A token is told by its shape. The digest of a JWT's ``jti`` is a key like any token's, so a
record is taken only for a credential of its own kind: nobody passes with a ``jti`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Final

from sidecar.admission import Admission
from sidecar.audit import Actor
from sidecar.core.credentials import MALFORMED
from sidecar.core.model import (
    Credential,
    Denial,
    Form,
    Kind,
    PasswordCredential,
    TokenCredential,
    TokenRecord,
)
from sidecar.core.policy import Principal
from sidecar.core.tokens import Shape, classify
from sidecar.reading import Reading
from sidecar.store.port import TokenLookup

INVALID_TOKEN: Final = Denial("invalid_token", "The token is unknown, expired or revoked.")


class Authenticator:
    """Finds out who is calling. ``now`` gives Unix seconds."""

    def __init__(
        self, tokens: TokenLookup, admission: Admission, now: Callable[[], float] = time
    ) -> None:
        self._tokens = tokens
        self._admission = admission
        self._now = now

    def recall(self, reading: Reading, credential: Credential, client: str) -> Principal | None:
        """Say who is calling if that is known without asking; ``None``: ``identify`` must tell."""
        if isinstance(credential, PasswordCredential):
            account = reading.rules.accounts.get(credential.account)
            if account is None or not self._admission.recall(account, credential.password, client):
                return None
            return Principal(account.name, Form.BASIC, None)
        key = reading.digest_of(credential)
        record = self._tokens.recall(key)
        if record is None:
            return self._recall_jwt(reading, credential, key)
        if record.kind is Kind.JWT:
            return None
        return Principal(record.account, credential.form, record)

    async def identify(
        self, reading: Reading, credential: Credential, client: str
    ) -> Principal | Denial:
        """Find out who is calling. Raises a ``Fault`` when that can't be known.

        What proves bad counts against ``client``, the caller's address, which may be banned.
        """
        if isinstance(credential, PasswordCredential):
            name, accounts = credential.account, reading.rules.accounts
            denial = await self._admission.admit(
                accounts, name, credential.password, client, Actor.PROXY
            )
            return denial or Principal(name, Form.BASIC, None)
        caller = await self._identify_token(reading, credential)
        if isinstance(caller, Denial) and caller.code == INVALID_TOKEN.code:
            return self._admission.refuse_token(caller, client)
        return caller

    async def _identify_token(
        self, reading: Reading, credential: TokenCredential
    ) -> Principal | Denial:
        shape = classify(credential.secret, reading.rules.token_prefix)
        if shape is Shape.JWT:
            return await self._identify_jwt(reading, credential)
        if shape is Shape.UNREADABLE:
            return MALFORMED
        if shape is Shape.BAD_CHECKSUM:
            return INVALID_TOKEN
        record = await self._tokens.look_up(reading.digest_of(credential))
        if record is None or record.kind is Kind.JWT:
            return INVALID_TOKEN
        return Principal(record.account, credential.form, record)

    def _recall_jwt(
        self, reading: Reading, credential: TokenCredential, key: str
    ) -> Principal | None:
        """Take a JWT of our own whose signature and record are both known; others must ask."""
        proof = reading.rules.jwt.recall(key, self._now())
        if proof is None or proof.record is not None:
            return None
        record = self._tokens.recall(proof.key)
        if record is None or not _is_of(record, proof.account):
            return None
        return Principal(record.account, credential.form, record)

    async def _identify_jwt(
        self, reading: Reading, credential: TokenCredential
    ) -> Principal | Denial:
        key = reading.digest_of(credential)
        proof = await reading.rules.jwt.verify(credential.secret, key, self._now())
        if isinstance(proof, Denial):
            return proof
        record = await self._tokens.look_up(proof.key) if proof.key else None
        if proof.record is not None:
            is_denied = record is not None
            return (
                INVALID_TOKEN
                if is_denied
                else Principal(proof.account, credential.form, proof.record)
            )
        if record is None or not _is_of(record, proof.account):
            return INVALID_TOKEN
        return Principal(record.account, credential.form, record)


def _is_of(record: TokenRecord, account: str) -> bool:
    """Tell whether a JWT's record is what the JWT itself says."""
    return record.kind is Kind.JWT and record.account == account
