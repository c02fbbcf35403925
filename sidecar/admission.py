"""Who comes in by password, and what a failure costs: one way for the proxy, the page and the API.

A ban is asked before a password is hashed, and again when a password that had to wait gets its
turn; a wrong one counts, even if its sender did not wait for the answer. A token is judged first
and comes here only when it has proved bad, so that a good one never meets a ban.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from sidecar.audit import Actor, AuditLog, keep_no_audit
from sidecar.core.model import Denial
from sidecar.core.policy import Account

INVALID_PASSWORD: Final = Denial("invalid_password", "The account or the password is wrong.")


class PasswordCheck(Protocol):
    """``sidecar.sign_in.SignIn``."""

    def is_known(self, account: Account, password: str) -> bool:
        """Tell, at once, whether this pair was found right lately."""

    async def check(
        self,
        accounts: Mapping[str, Account],
        name: str,
        password: str,
        may_go_on: Callable[[], bool],
    ) -> bool | None:
        """Tell whether they belong together; ``None``: ``may_go_on`` had changed its mind."""


class Gate(Protocol):
    """Slows down who guesses (``sidecar.throttle.Throttle``)."""

    def check(self, client: str, account: str | None = None) -> int | None:
        """Return for how many seconds this is refused, or ``None`` if it is not."""

    def note_failure(self, client: str, account: str | None = None) -> None:
        """Count a bad token, or with ``account`` a wrong password for this name."""

    def note_sign_in(self, client: str, account: str) -> None:
        """Note that the account's password came, and was right, from here."""


class OpenGate:
    """Bans nobody."""

    def check(self, client: str, account: str | None = None) -> int | None:
        """See ``Gate``."""
        return None

    def note_failure(self, client: str, account: str | None = None) -> None:
        """See ``Gate``."""

    def note_sign_in(self, client: str, account: str) -> None:
        """See ``Gate``."""


class Admission:
    """Judges passwords and counts failures. ``client`` is the address of the caller, always."""

    def __init__(
        self,
        passwords: PasswordCheck,
        gate: Gate | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self._passwords = passwords
        self._gate = gate or OpenGate()
        self._audit = audit or keep_no_audit()

    def recall(self, account: Account, password: str, client: str) -> bool:
        """Tell, at once, whether the password was found right lately, and no ban is in its way.

        What is remembered does not pass a ban: it would tell a guesser, without any limit, which
        guess is right.
        """
        if self._gate.check(client, account.name) is not None:
            return False
        if not self._passwords.is_known(account, password):
            return False
        self._gate.note_sign_in(client, account.name)
        return True

    async def admit(
        self, accounts: Mapping[str, Account], name: str, password: str, client: str, actor: Actor
    ) -> Denial | None:
        """Return why this account and password do not come in; ``None``: they do.

        An unknown account and a wrong password are one denial. May raise ``Overloaded``.
        """
        seconds = self._gate.check(client, name)
        if seconds is not None:
            return too_many_failures(seconds)
        # Who hangs up gets no further guess out of it: the failure is counted all the same.
        judged = asyncio.ensure_future(self._judge(accounts, name, password, client, actor))
        return await asyncio.shield(judged)

    def refuse_token(self, denial: Denial, client: str) -> Denial:
        """Count a token that has proved bad; return its denial, or that of a banned client."""
        seconds = self._gate.check(client)
        if seconds is not None:
            return too_many_failures(seconds)
        self._gate.note_failure(client)
        return denial

    async def _judge(
        self, accounts: Mapping[str, Account], name: str, password: str, client: str, actor: Actor
    ) -> Denial | None:
        gate = self._gate
        is_right = await self._passwords.check(
            accounts, name, password, lambda: gate.check(client, name) is None
        )
        if is_right:
            gate.note_sign_in(client, name)
            return None
        seconds = gate.check(client, name)
        if is_right is None or seconds is not None:
            return too_many_failures(seconds or 1)
        gate.note_failure(client, name)
        self._audit.sign_in_failed(name, client, actor)
        return INVALID_PASSWORD


def too_many_failures(seconds: int) -> Denial:
    """Return the refusal of who is banned for ``seconds`` yet."""
    return Denial("too_many_failures", "Too many attempts failed; try again later.", seconds)
