"""Authenticates by password and counts failures, in one way for the proxy, the page and the API.

Bans are checked before a password is hashed, and again when a password that had to wait gets its
turn. A wrong password counts even if the client hung up before the answer. A token is judged first
and gets here only once it has proved bad, so a good token never meets a ban.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.core.model import Denial
from sidecar.core.passwords import PasswordProof
from sidecar.core.policy import Account
from sidecar.core.subjects import key_of
from sidecar.observability.audit import Actor, AuditLog, keep_no_audit

INVALID_PASSWORD: Final = Denial("invalid_password", "The account or the password is wrong.")


class ThrottlePort(Protocol):
    """Counts failures and bans clients that guess; ``auth.throttle.Throttle`` implements it."""

    def check(self, client: str, account: str | None = None) -> int | None:
        """Return for how many more seconds this is banned; ``None``: it is not."""

    def may_look_up(self, client: str, digest: str, is_limited: bool = False) -> bool:
        """Tell whether a token that this process does not know may be looked up in the store.

        ``is_limited``: look-ups are limited whether or not the client is banned.
        """

    def failures_of(self, client: str, key: str) -> int:
        """Return how many failures count against a client that signs in to the account of ``key``.

        If the client is welcome for the account, only failures of this account from its network
        count. ``key`` comes from ``core.subjects.key_of``.
        """

    def note_failure(self, client: str, account: str | None = None) -> None:
        """Count a bad token, or with ``account`` a wrong password for that account."""

    def note_sign_in(self, client: str, account: str) -> None:
        """Note that the client has signed in to the account with its password."""


class NoThrottle:
    """Counts nothing and bans nobody."""

    def check(self, client: str, account: str | None = None) -> int | None:
        """See ``ThrottlePort``."""
        return None

    def may_look_up(self, client: str, digest: str, is_limited: bool = False) -> bool:
        """See ``ThrottlePort``."""
        return True

    def failures_of(self, client: str, key: str) -> int:
        """See ``ThrottlePort``."""
        return 0

    def note_failure(self, client: str, account: str | None = None) -> None:
        """See ``ThrottlePort``."""

    def note_sign_in(self, client: str, account: str) -> None:
        """See ``ThrottlePort``."""


class PasswordAuth:
    """Judges passwords and counts failures. ``client`` is always the caller's address."""

    def __init__(
        self,
        verifier: PasswordVerifier,
        throttle: ThrottlePort | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self._verifier = verifier
        self._throttle = throttle or NoThrottle()
        self._audit = audit or keep_no_audit()

    def cached_proof(
        self, account: Account, password: str, client: str, proof: PasswordProof | None = None
    ) -> PasswordProof | None:
        """Return the proof that the password was found right lately, unless a ban forbids it.

        Pass the proof back in the next time. A ban applies to remembered passwords too: otherwise
        a guesser could find out, without any limit, which guess is right.
        """
        if self._throttle.check(client, account.name) is not None:
            return None
        proof = self._verifier.cached_proof(account, password, proof)
        if proof is not None:
            self._throttle.note_sign_in(client, account.name)
        return proof

    async def authenticate(
        self, accounts: Mapping[str, Account], name: str, password: str, client: str, actor: Actor
    ) -> Denial | None:
        """Return why this account and password are refused; ``None``: they are right.

        An unknown account and a wrong password give the same denial. May raise ``Overloaded``.
        """
        seconds = self._throttle.check(client, name)
        if seconds is not None:
            return too_many_failures(seconds)
        attempt = _Attempt(self._throttle, self._audit, name, client, actor)
        self._verifier.submit(accounts, name, password, attempt)
        return await attempt.verdict

    def may_look_up(self, client: str, digest: str, is_limited: bool = False) -> bool:
        """Tell whether a token that this process does not know may be looked up in the store.

        For banned clients, and with ``is_limited``, these look-ups are limited.
        """
        return self._throttle.may_look_up(client, digest, is_limited)

    def refuse_token(self, denial: Denial, client: str) -> Denial:
        """Count a token that has proved bad; return ``denial``, or a 429 for a banned client."""
        seconds = self._throttle.check(client)
        if seconds is not None:
            return too_many_failures(seconds)
        self._throttle.note_failure(client)
        return denial


class _Attempt:
    """A ``PasswordAttempt`` with its ``verdict`` as a future.

    A client that hangs up early gains no extra guess: its failure counts all the same.
    """

    __slots__ = ("_actor", "_audit", "_key", "_name", "_throttle", "client", "verdict")

    def __init__(
        self, throttle: ThrottlePort, audit: AuditLog, name: str, client: str, actor: Actor
    ) -> None:
        self._throttle = throttle
        self._audit = audit
        self._name = name
        self.client = client
        self._actor = actor
        self._key = key_of(name)
        self.verdict: asyncio.Future[Denial | None] = asyncio.get_running_loop().create_future()

    def failures(self) -> int:
        return self._throttle.failures_of(self.client, self._key)

    def is_allowed(self) -> bool:
        return self._throttle.check(self.client, self._name) is None

    def settle(self, is_right: bool | None) -> None:
        denial = None if is_right else self._refuse(is_right)
        if is_right:
            self._throttle.note_sign_in(self.client, self._name)
        if not self.verdict.done():
            self.verdict.set_result(denial)

    def fail(self, error: BaseException | None) -> None:
        if error is None:
            self.verdict.cancel()
        elif not self.verdict.done():
            self.verdict.set_exception(error)

    def _refuse(self, is_right: bool | None) -> Denial:
        throttle, client, name = self._throttle, self.client, self._name
        seconds = throttle.check(client, name)
        if is_right is None or seconds is not None:
            return too_many_failures(seconds or 1)
        throttle.note_failure(client, name)
        self._audit.sign_in_failed(name, client, self._actor)
        return INVALID_PASSWORD


def too_many_failures(seconds: int) -> Denial:
    """Return the denial for a client that is banned for another ``seconds``."""
    return Denial("too_many_failures", "Too many attempts failed; try again later.", seconds)
