"""Who is calling: takes a credential, returns a ``Principal`` or a denial.

``cached_principal`` answers at once, from what this process knows; ``identify`` asks the store, an
issuer of JWTs or the password verifier. A token's kind follows from its shape. A JWT's record is
stored under the digest of its ``jti``, a key like any other token's, so a record counts only for a
credential of its own kind: a ``jti`` sent as a token identifies nobody. An imported JWT is known by
its own digest, but only while no key and no issuer claims it, which depends on the rules in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Final

from sidecar.auth.credential_cache import CachedCredential
from sidecar.auth.jwt_verifier import JwtVerifier
from sidecar.auth.password_auth import PasswordAuth
from sidecar.core.credential_faults import is_slip
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
from sidecar.core.policy import Account, Principal
from sidecar.core.subjects import network_of
from sidecar.core.tokens import Shape, classify
from sidecar.core.unclaimed_jwts import NOT_TRUSTED, UnclaimedJwt
from sidecar.observability.audit import Actor
from sidecar.store.port import TokenLookup

_JWT: Final = TokenKind.JWT  # a module constant: looking an enumeration up costs 0.1 µs
_IMPORTED: Final = TokenKind.IMPORTED
INVALID_TOKEN: Final = Denial("invalid_token", "The token is unknown, expired or revoked.")
OTHER_ACCOUNT: Final = Denial(
    "invalid_token", "The user name that came with the token is not its account."
)
BAD_CHECKSUM: Final = Denial(
    "invalid_token", "The token is wrong: it was mistyped, cut off or made up."
)


@dataclass(frozen=True, slots=True)
class AuthRules:
    """What one configuration says about who may call."""

    accounts: Mapping[str, Account]
    jwt: JwtVerifier
    token_prefix: str


class Authenticator:
    """Identifies callers. ``now`` returns Unix seconds."""

    def __init__(
        self, tokens: TokenLookup, admission: PasswordAuth, now: Callable[[], float] = time
    ) -> None:
        self._cached_token, self._look_up_token = tokens.get, tokens.look_up
        self._is_absent, self._is_familiar = tokens.is_absent, tokens.is_familiar
        self._admission = admission
        self._now = now

    def cached_principal(
        self, rules: AuthRules, cached: CachedCredential, credential: Credential, client: str
    ) -> Principal | Denial | None:
        """Return who is calling, or the denial, if this process knows; else ``None``.

        After ``None``, ``identify`` finds out. ``credential`` is that of ``cached``. Failures
        count against ``client`` as they do in ``identify``.
        """
        if isinstance(credential, PasswordCredential):
            account = rules.accounts.get(credential.account)
            if account is None:
                return None
            password, known_proof = credential.password, cached.proof
            cached.proof = self._admission.cached_proof(account, password, client, known_proof)
            if cached.proof is None:
                return None
            if cached.principal is None:
                cached.principal = Principal(account.name, Form.BASIC, None)
                cached.is_cacheable = True
            return cached.principal
        record = self._cached_token(cached.digest)
        if record is None:
            if "." in credential.secret:
                return self._cached_jwt(rules, cached, credential)
            return self._refuse_absent(cached, credential, client)
        known = cached.principal
        if known is not None and known.record is record:
            return known
        if record.kind is _JWT or credential.secret.count(".") == 2:
            return None  # it may be an imported JWT, which these rules may claim
        cached.is_cacheable = True
        caller = _note(cached, credential, record)
        if isinstance(caller, Denial):
            return self._admission.refuse_token(caller, client)
        return caller

    async def identify(
        self, rules: AuthRules, cached: CachedCredential, credential: Credential, client: str
    ) -> Principal | Denial:
        """Return who is calling, or the denial. Raises a ``Fault`` when that can't be known.

        A bad credential counts against ``client``, the caller's address, which may be banned. A
        token in quotes or the like (``is_slip``) does not: it is a slip, not a guess.
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
            caller = await self._identify_jwt(rules, cached, credential, client)
        elif shape is Shape.UNREADABLE:
            caller = MALFORMED
        elif shape is Shape.BAD_CHECKSUM:
            caller = BAD_CHECKSUM
        else:
            caller = await self._identify_opaque(cached, credential, client)
        if isinstance(caller, Denial) and caller.code == INVALID_TOKEN.code:
            return self._admission.refuse_token(caller, client)
        return caller

    async def _identify_opaque(
        self, cached: CachedCredential, credential: TokenCredential, client: str
    ) -> Principal | Denial:
        """Look a token up in the store, unless the client has used up its look-ups.

        Look-ups are limited for banned clients, and for slips, as these lead to no ban. Raises
        ``Overloaded`` beyond the limit: the token may be good, so a denial would be wrong. A token
        that was good recently is always looked up.
        """
        is_a_slip = is_slip(credential.secret)
        record = await self._look_up_bounded(cached.digest, client, is_a_slip)
        if record is not None and record.kind is not _JWT:
            return _note(cached, credential, record)
        return MALFORMED if is_a_slip else INVALID_TOKEN

    async def _look_up_bounded(
        self, digest: str, client: str, is_a_slip: bool
    ) -> TokenRecord | None:
        """Look up what anybody can make up. Raises ``Overloaded`` beyond the client's limit."""
        if not self._is_familiar(digest) and not self._admission.may_look_up(
            client, digest, is_a_slip
        ):
            raise Overloaded("a client sends more unknown tokens than are looked up for it")
        return await self._look_up_token(digest, _asker_of(client))

    def _refuse_absent(
        self, cached: CachedCredential, credential: TokenCredential, client: str
    ) -> Denial | None:
        """Deny an opaque token that the cache knows to be absent from the store."""
        if not self._is_absent(cached.digest):
            return None
        cached.is_cacheable = True
        if is_slip(credential.secret):
            return MALFORMED
        return self._admission.refuse_token(INVALID_TOKEN, client)

    def _cached_jwt(
        self, rules: AuthRules, cached: CachedCredential, credential: TokenCredential
    ) -> Principal | None:
        """Return the caller of one of our own JWTs whose signature and record are both cached."""
        proof = rules.jwt.cached_proof(cached.digest, self._now())
        if proof is None or proof.record is not None:
            return None
        record = self._cached_token(proof.key)
        if (
            record is None
            or not _is_of(record, proof.account)
            or _is_of_another(credential, record)
        ):
            return None
        cached.is_cacheable = True
        return Principal(record.account, credential.form, record)

    async def _identify_jwt(
        self, rules: AuthRules, cached: CachedCredential, credential: TokenCredential, client: str
    ) -> Principal | Denial:
        proof = await rules.jwt.verify(credential.secret, cached.digest, self._now())
        if isinstance(proof, Denial):
            return proof
        if isinstance(proof, UnclaimedJwt):
            return await self._identify_imported_jwt(proof, cached, credential, client)
        if credential.account and credential.account != proof.account:
            return OTHER_ACCOUNT
        cached.is_cacheable = True
        record = None
        if proof.key:  # a trusted issuer signed it, so nobody made it up to cause look-ups
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

    async def _identify_imported_jwt(
        self,
        unclaimed: UnclaimedJwt,
        cached: CachedCredential,
        credential: TokenCredential,
        client: str,
    ) -> Principal | Denial:
        """Look up a JWT that nothing claims, as one looks up an opaque token; its ``exp`` counts.

        ``cached`` belongs to these rules, so its principal says that they don't claim the JWT.
        """
        record = await self._look_up_bounded(cached.digest, client, is_a_slip=False)
        if record is None or record.kind is not _IMPORTED:
            return NOT_TRUSTED
        cached.is_cacheable = True
        if _ends_by(record, unclaimed.expires_at):
            return _note(cached, credential, record)
        if _is_of_another(credential, record):
            return OTHER_ACCOUNT
        limited = record.replace(expires_at=unclaimed.expires_at)
        return Principal(limited.account, credential.form, limited)


def _ends_by(record: TokenRecord, end: float | None) -> bool:
    """Return whether a token's record ends it by ``end`` (Unix seconds; ``None``: never)."""
    return end is None or (record.expires_at is not None and record.expires_at <= end)


def _asker_of(client: str) -> str:
    """Return the queue in which this client's look-ups wait; an empty name is the sidecar's own."""
    return network_of(client) or client or "?"


def _note(
    cached: CachedCredential, credential: TokenCredential, record: TokenRecord
) -> Principal | Denial:
    """Return whom an opaque token's record names, and cache that with the credential.

    What is cached was compared with the user name that came with the token, if one did.
    """
    if _is_of_another(credential, record):
        return OTHER_ACCOUNT
    principal = Principal(record.account, credential.form, record)
    cached.principal = principal
    return principal


def _is_of_another(credential: TokenCredential, record: TokenRecord) -> bool:
    """Return whether the user name that came with a token is not its account."""
    return credential.account != "" and credential.account != record.account


def _is_of(record: TokenRecord, account: str) -> bool:
    """Return whether a record agrees with the JWT that names it."""
    return record.kind is _JWT and record.account == account
