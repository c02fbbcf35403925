"""Who comes in by password, and what a failure costs: one way for the proxy, the page and the API.

A ban is asked before a password is hashed, and again when a password that had to wait gets its
turn; a wrong one counts, even if its sender did not wait for the answer. A token is judged first
and comes here only when it has proved bad, so that a good one never meets a ban.
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
    """Slows down who guesses (``sidecar.auth.throttle.Throttle``)."""

    def check(self, client: str, account: str | None = None) -> int | None:
        """Return for how many seconds this is refused, or ``None`` if it is not."""

    def may_look_up(self, client: str, digest: str) -> bool:
        """Tell whether the store may be asked for a token that nobody here knows."""

    def failures_of(self, client: str, key: str) -> int:
        """Return how many failures count against who gives a password for the account of ``key``.

        A client that is welcome there is judged by those of just this account from there. ``key``
        is that of ``core.subjects.key_of``.
        """

    def note_failure(self, client: str, account: str | None = None) -> None:
        """Count a bad token, or with ``account`` a wrong password for this name."""

    def note_sign_in(self, client: str, account: str) -> None:
        """Note that the account's password came, and was right, from here."""


class NoThrottle:
    """Bans nobody."""

    def check(self, client: str, account: str | None = None) -> int | None:
        """See ``ThrottlePort``."""
        return None

    def may_look_up(self, client: str, digest: str) -> bool:
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
    """Judges passwords and counts failures. ``client`` is the address of the caller, always."""

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
        """Return, at once, the proof that the password was found right lately, if no ban is in its
        way; give it along the next time.

        What is remembered does not pass a ban: it would tell a guesser, without any limit, which
        guess is right.
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
        """Return why this account and password do not come in; ``None``: they do.

        An unknown account and a wrong password are one denial. May raise ``Overloaded``.
        """
        seconds = self._throttle.check(client, name)
        if seconds is not None:
            return too_many_failures(seconds)
        attempt = _Attempt(self._throttle, self._audit, name, client, actor)
        self._verifier.submit(accounts, name, password, attempt)
        return await attempt.verdict

    def may_look_up(self, client: str, digest: str) -> bool:
        """Tell whether the store may be asked for a token that nobody here knows; a banned client
        may not have it asked for as many as it likes.
        """
        return self._throttle.may_look_up(client, digest)

    def refuse_token(self, denial: Denial, client: str) -> Denial:
        """Count a token that has proved bad; return its denial, or that of a banned client."""
        seconds = self._throttle.check(client)
        if seconds is not None:
            return too_many_failures(seconds)
        self._throttle.note_failure(client)
        return denial


class _Attempt:
    """A password being verified (an ``Asker`` of ``auth.password_verifier``), and its ``verdict``.

    Who hangs up gets no further guess out of it: the failure is counted all the same.
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
    """Return the refusal of who is banned for ``seconds`` yet."""
    return Denial("too_many_failures", "Too many attempts failed; try again later.", seconds)
