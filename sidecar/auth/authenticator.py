"""Who is calling: a credential in, a ``Principal`` or a denial out.

``recall`` answers at once, from what is known in this process; ``identify`` asks whoever must be
asked. A token is told by its shape. The digest of a JWT's ``jti`` is a key like any token's, so a
record is taken only for a credential of its own kind: nobody passes with a ``jti`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Final

from sidecar.auth.password_auth import PasswordAuth
from sidecar.core.credentials import MALFORMED
from sidecar.core.errors import Overloaded
from sidecar.core.model import (
    Credential,
    Denial,
    Form,
    PasswordCredential,
    TokenCredential,
    TokenKind,
    TokenRecord,
)
from sidecar.core.policy import Principal
from sidecar.core.subjects import network_of
from sidecar.core.tokens import Shape, classify
from sidecar.observability.audit import Actor
from sidecar.proxy.reading import Claim
from sidecar.proxy.rules import Rules
from sidecar.store.port import TokenLookup

_JWT: Final = TokenKind.JWT  # a name of the module: looking an enumeration up costs 0.1 µs
INVALID_TOKEN: Final = Denial("invalid_token", "The token is unknown, expired or revoked.")


class Authenticator:
    """Finds out who is calling. ``now`` gives Unix seconds."""

    def __init__(
        self, tokens: TokenLookup, admission: PasswordAuth, now: Callable[[], float] = time
    ) -> None:
        self._recall_token, self._look_up_token = tokens.get, tokens.look_up
        self._is_absent, self._is_familiar = tokens.is_absent, tokens.is_familiar
        self._admission = admission
        self._now = now

    def recall(
        self, rules: Rules, claim: Claim, credential: Credential, client: str
    ) -> Principal | Denial | None:
        """Say who is calling if that is known without asking; ``None``: ``identify`` must tell.

        ``credential`` is that of ``claim``; what proves bad counts as it does there.
        """
        if isinstance(credential, PasswordCredential):
            account = rules.accounts.get(credential.account)
            if account is None:
                return None
            password, known_proof = credential.password, claim.proof
            claim.proof = self._admission.cached_proof(account, password, client, known_proof)
            if claim.proof is None:
                return None
            if claim.principal is None:
                claim.principal = Principal(account.name, Form.BASIC, None)
                claim.is_worth_keeping = True
            return claim.principal
        record = self._recall_token(claim.digest)
        if record is None:
            if "." in credential.secret:
                return self._recall_jwt(rules, claim, credential)
            return self._refuse_absent(claim, client)
        known = claim.principal
        if known is not None and known.record is record:
            return known
        if record.kind is _JWT:
            return None
        claim.is_worth_keeping = True
        return _note(claim, credential, record)

    async def identify(
        self, rules: Rules, claim: Claim, credential: Credential, client: str
    ) -> Principal | Denial:
        """Find out who is calling. Raises a ``Fault`` when that can't be known.

        What proves bad counts against ``client``, the caller's address, which may be banned.
        """
        if isinstance(credential, PasswordCredential):
            name, accounts = credential.account, rules.accounts
            denial = await self._admission.authenticate(
                accounts, name, credential.password, client, Actor.PROXY
            )
            return denial or Principal(name, Form.BASIC, None)
        shape = classify(credential.secret, rules.token_prefix)
        caller: Principal | Denial
        if shape is Shape.JWT:
            caller = await self._identify_jwt(rules, claim, credential, client)
        elif shape is Shape.UNREADABLE:
            caller = MALFORMED
        elif shape is Shape.BAD_CHECKSUM:
            caller = INVALID_TOKEN
        else:
            record = await self._look_up_opaque(claim.digest, client)
            is_good = record is not None and record.kind is not _JWT
            caller = _note(claim, credential, record) if record and is_good else INVALID_TOKEN
        if isinstance(caller, Denial) and caller.code == INVALID_TOKEN.code:
            return self._admission.refuse_token(caller, client)
        return caller

    async def _look_up_opaque(self, digest: str, client: str) -> TokenRecord | None:
        """Ask the store for a token, unless a banned client has had it asked for too many.

        That is "I don't know": the token may be good. One that was good lately is always asked for.
        """
        if not self._is_familiar(digest) and not self._admission.may_look_up(client, digest):
            raise Overloaded("a banned client sends more unknown tokens than are looked up for it")
        return await self._look_up_token(digest, _asker_of(client))

    def _refuse_absent(self, claim: Claim, client: str) -> Denial | None:
        """Refuse an opaque token that is known to be unknown."""
        if not self._is_absent(claim.digest):
            return None
        claim.is_worth_keeping = True
        return self._admission.refuse_token(INVALID_TOKEN, client)

    def _recall_jwt(
        self, rules: Rules, claim: Claim, credential: TokenCredential
    ) -> Principal | None:
        """Take a JWT of our own whose signature and record are both known; others must ask."""
        proof = rules.jwt.cached_proof(claim.digest, self._now())
        if proof is None or proof.record is not None:
            return None
        record = self._recall_token(proof.key)
        if record is None or not _is_of(record, proof.account):
            return None
        claim.is_worth_keeping = True
        return Principal(record.account, credential.form, record)

    async def _identify_jwt(
        self, rules: Rules, claim: Claim, credential: TokenCredential, client: str
    ) -> Principal | Denial:
        proof = await rules.jwt.verify(credential.secret, claim.digest, self._now())
        if isinstance(proof, Denial):
            return proof
        claim.is_worth_keeping = True
        record = None
        if proof.key:  # signed by whom we trust: not made up, whoever sends it
            record = await self._look_up_token(proof.key, _asker_of(client))
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


def _asker_of(client: str) -> str:
    """Return whose look-ups wait for each other; never empty, which is the sidecar itself."""
    return network_of(client) or client or "?"


def _note(claim: Claim, credential: TokenCredential, record: TokenRecord) -> Principal:
    """Say whom an opaque token's record names, and keep that with its claim."""
    principal = Principal(record.account, credential.form, record)
    claim.principal = principal
    return principal


def _is_of(record: TokenRecord, account: str) -> bool:
    """Tell whether a JWT's record is what the JWT itself says."""
    return record.kind is _JWT and record.account == account
