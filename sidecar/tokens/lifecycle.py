"""The life of a token: made, imported, shown, rotated, revoked; the same rules by whichever door.

The command line and the HTTP API both stand on this. Who may do what is theirs to check; where an
``account`` can be passed beside an id, only that account's tokens are seen.

A time in a record is a whole second, the one that has begun: a token lives at most its days, and
less by under a second.
"""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches

from sidecar.core import tokens
from sidecar.core.errors import Overloaded, UsageError
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.core.patterns import compile_pattern
from sidecar.core.policy import Account
from sidecar.core.tokens import Entropy, Shape
from sidecar.store.port import TokenStore

DAY_SECONDS = 86400
MAX_DAYS = 36_500
MAX_NAME_CHARS = 100
MAX_PATHS_BYTES = 2048
MAX_OVERLAP_SECONDS = 30 * DAY_SECONDS
MOST_WAITING = 64
"""So many tokens of one account may wait to be made by a process; beyond it: ``Overloaded``."""

Signer = Callable[[TokenRecord], str]
"""Makes the JWT whose ``jti`` is the record's id and whose ``exp`` is its expiry."""


class UnknownToken(UsageError):
    """No live token has this id, or none of this account's has."""


class TooManyTokens(UsageError):
    """The account has as many live tokens as it may have."""


@dataclass(frozen=True, slots=True)
class Description:
    """A token as it is shown: never with its secret."""

    record: TokenRecord
    last_use: LastUse | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a string that may be a token."""

    shape: Shape
    is_checksum_right: bool | None
    """``None``: this is no access token of ours, so there is no checksum."""
    record: TokenRecord | None
    """The live record; ``None``: unknown, expired or revoked."""


class Lifecycle:
    """Every change to tokens.

    All methods may raise ``StoreUnavailable``, and ``UsageError`` with the reason when asked for
    what can't be done. What makes a token may raise ``TooManyTokens``, and ``Overloaded`` when too
    many are asked for at once.
    """

    def __init__(
        self,
        store: TokenStore,
        accounts: Mapping[str, Account],
        token_prefix: str,
        now: Callable[[], float],
        entropy: Entropy,
        signer: Signer | None = None,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._token_prefix = token_prefix
        self._now = now
        self._entropy = entropy
        self._signer = signer
        self._turns = _Turns()

    async def create(
        self,
        account: str,
        name: str,
        days: int,
        *,
        kind: TokenKind = TokenKind.ACCESS,
        paths: Sequence[str] = (),
    ) -> tuple[TokenRecord, str]:
        """Make a token that lives ``days`` (0: unlimited) and return it, for the only time.

        Spaces around the name, which nobody could see, are not part of it.
        Raises ``NameTaken`` when the account has a live token of this name.
        """
        self._check(account, name, days, paths)
        name = name.strip(" ")
        record, secret = self._make(account, name, kind, _seconds(days), tuple(paths))
        async with self._room_for_one_more(account):
            await self._store.create(record)
        return record, secret

    async def import_token(
        self, account: str, name: str, days: int, secret: str, paths: Sequence[str] = ()
    ) -> TokenRecord:
        """Accept a token of the system that is replaced, as it is; only its digest is kept.

        Raises ``NameTaken`` when the account has a live token of this name.
        """
        self._check(account, name, days, paths)
        name = name.strip(" ")
        self._check_importable(secret)
        digest = tokens.digest(secret)
        if await self._store.look_up(digest) is not None:
            raise UsageError("this token has been imported already")
        record = self._record(
            account, name, TokenKind.IMPORTED, _seconds(days), tuple(paths), digest
        )
        async with self._room_for_one_more(account):
            await self._store.create(record)
        return record

    async def list(self, account: str | None = None) -> builtins.list[Description]:
        """Return the live tokens of one account, or of all, oldest first."""
        records = await self._store.list(account)
        uses = await self._store.last_uses(records)
        return [Description(record, uses.get(record.digest)) for record in records]

    async def show(self, token_id: str, account: str | None = None) -> Description:
        """Return one live token; raises ``UnknownToken``."""
        record = await self._find(token_id, account)
        uses = await self._store.last_uses([record])
        return Description(record, uses.get(record.digest))

    async def revoke(self, token_id: str, account: str | None = None) -> TokenRecord:
        """End a token at once and return what it was; raises ``UnknownToken``."""
        record = await self._find(token_id, account)
        await self._store.revoke(record)
        return record

    async def revoke_all(self, account: str) -> builtins.list[TokenRecord]:
        """End every token of an account, declared or not, and return what they were."""
        records = await self._store.list(account)
        return [record for record in records if await self._store.revoke(record)]

    async def rotate(
        self, token_id: str, overlap_seconds: float, account: str | None = None
    ) -> tuple[TokenRecord, str]:
        """Make a successor of same name, paths and lifetime; the old one lives for the overlap.

        The lifetime is the one that the old token was given, also when it has been cut short since.
        An imported token is succeeded by an access token. Raises ``UnknownToken``, and
        ``NameTaken`` when the token has been rotated before.
        """
        if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
            raise UsageError(
                f"the overlap must be from 0 to {MAX_OVERLAP_SECONDS // DAY_SECONDS} days"
            )
        old = await self._find(token_id, account)
        lifetime = old.lifetime_seconds
        self._check_account(old.account)
        self._check_longest(old.account, lifetime)
        kind = TokenKind.JWT if old.kind is TokenKind.JWT else TokenKind.ACCESS
        successor, secret = self._make(old.account, old.name, kind, lifetime, old.paths)
        ends_at_once = not overlap_seconds
        async with self._room_for_one_more(old.account, old.id, ends_at_once=ends_at_once):
            await self._store.supersede(old, successor, overlap_seconds)
        return successor, secret

    async def inspect(self, secret: str) -> Inspection:
        """Tell what a string is; the store is asked only if it can be one of its tokens."""
        shape = tokens.classify(secret, self._token_prefix)
        is_ours = shape in (Shape.ACCESS, Shape.BAD_CHECKSUM)
        can_be_known = shape in (Shape.ACCESS, Shape.OTHER)
        record = await self._store.look_up(tokens.digest(secret)) if can_be_known else None
        return Inspection(shape, shape is Shape.ACCESS if is_ours else None, record)

    def describe_undeclared(self, account: str) -> str:
        """Say that there is no such account, and which one may be meant."""
        near = get_close_matches(account, self._accounts, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        return f"the configuration declares no account {account!r}{meant}"

    @asynccontextmanager
    async def _room_for_one_more(
        self, account: str, replaces: str = "", *, ends_at_once: bool = False
    ) -> AsyncIterator[None]:
        """Hold a place for another token of the account, or one instead of that with an id.

        Those that have been rotated and live on have as many places again: so a token can be
        rotated at the limit, and rotating again and again makes no more than twice as many.
        Raises ``TooManyTokens``.
        """
        most = self._accounts[account].max_tokens
        if not most:
            yield
            return
        async with self._turns.of(account):
            if await self._store.count_at_most(account) >= most:
                live = await self._store.list(account)
                current = [r for r in live if r.granted_until is None and r.id != replaces]
                _check_room(account, most, len(current), len(live) - ends_at_once)
            yield

    async def _find(self, token_id: str, account: str | None) -> TokenRecord:
        record = await self._store.find(token_id, account)
        if record is None:
            raise UnknownToken(
                "no live token has this id; `sidecar token list` shows those there are"
            )
        return record

    def _make(
        self,
        account: str,
        name: str,
        kind: TokenKind,
        lifetime_seconds: float | None,
        paths: tuple[str, ...],
    ) -> tuple[TokenRecord, str]:
        if kind is TokenKind.JWT:
            return self._make_jwt(account, name, lifetime_seconds, paths)
        if kind is not TokenKind.ACCESS:
            raise UsageError("a token that is made here is an access token or a JWT")
        secret = tokens.generate(self._token_prefix, self._entropy)
        digest = tokens.digest(secret)
        return self._record(account, name, kind, lifetime_seconds, paths, digest), secret

    def _make_jwt(
        self, account: str, name: str, lifetime_seconds: float | None, paths: tuple[str, ...]
    ) -> tuple[TokenRecord, str]:
        if self._signer is None:
            raise UsageError("a JWT can't be made: no key is configured to sign it with")
        jti = tokens.new_id(self._entropy)
        digest = tokens.digest(jti)
        record = self._record(account, name, TokenKind.JWT, lifetime_seconds, paths, digest, jti)
        return record, self._signer(record)

    def _record(
        self,
        account: str,
        name: str,
        kind: TokenKind,
        lifetime_seconds: float | None,
        paths: tuple[str, ...],
        digest: str,
        token_id: str | None = None,
    ) -> TokenRecord:
        created_at = float(math.floor(self._now()))
        return TokenRecord(
            id=token_id or tokens.new_id(self._entropy),
            account=account,
            name=name,
            kind=kind,
            digest=digest,
            created_at=created_at,
            expires_at=None if lifetime_seconds is None else created_at + lifetime_seconds,
            paths=paths,
        )

    def _check(self, account: str, name: str, days: int, paths: Sequence[str]) -> None:
        self._check_account(account)
        _check_name(name)
        _check_days(days)
        self._check_longest(account, _seconds(days))
        _check_paths(paths)

    def _check_account(self, account: str) -> None:
        declared = self._accounts.get(account)
        if declared is None:
            raise UsageError(self.describe_undeclared(account))
        if declared.disabled:
            raise UsageError(f"account {account} is disabled")

    def _check_longest(self, account: str, lifetime_seconds: float | None) -> None:
        longest = self._accounts[account].max_token_days
        if longest and (lifetime_seconds is None or lifetime_seconds > longest * DAY_SECONDS):
            raise UsageError(f"tokens of account {account} live at most {longest} days")

    def _check_importable(self, secret: str) -> None:
        shape = tokens.classify(secret, self._token_prefix)
        if shape is Shape.JWT:
            raise UsageError(
                "a JWT is not imported: configure the key of the system that signed it under "
                "jwt.trusted_issuers (a JWKS may hold a shared HS256 secret)"
            )
        if shape is Shape.UNREADABLE:
            raise UsageError(
                f"an imported token has {tokens.MIN_OPAQUE_CHARS} to {tokens.MAX_OPAQUE_CHARS} "
                "visible ASCII characters"
            )
        has_prefix = self._token_prefix != "" and secret.startswith(self._token_prefix)
        if shape is not Shape.OTHER or has_prefix:
            raise UsageError(
                f"a token that begins with {self._token_prefix} is not imported: "
                "only this sidecar's own tokens do"
            )


class _Turns:
    """One after the other of each account, so that what is counted is still true when it is used.

    A process has its own; others may make one token each in between.
    """

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, account: str) -> AsyncIterator[None]:
        """Wait for the account's turn and have it. Raises ``Overloaded``."""
        waiting = self._waiting.get(account, 0)
        if waiting >= MOST_WAITING:
            raise Overloaded(f"too many tokens of account {account} are being made at once")
        self._waiting[account] = waiting + 1
        try:
            async with self._locks.setdefault(account, asyncio.Lock()):
                yield
        finally:
            self._waiting[account] -= 1
            if not self._waiting[account]:
                del self._waiting[account], self._locks[account]


def _check_room(account: str, most: int, current: int, live: int) -> None:
    """Raise ``TooManyTokens`` unless an account with so many tokens may have one more.

    ``current`` are those that were not rotated, ``live`` all.
    """
    if current >= most:
        raise TooManyTokens(
            f"account {account} has {_tokens(current)}, and may have {most}: revoke one that is "
            f"no longer needed, or have accounts.{account}.max_tokens raised"
        )
    if live >= 2 * most:
        raise TooManyTokens(
            f"account {account} has {_tokens(live)} with those that were rotated and live on, and "
            f"may have {2 * most}: revoke one that is no longer needed, or rotate without overlap"
        )


def _tokens(number: int) -> str:
    return f"{number} token{'' if number == 1 else 's'}"


def _seconds(days: int) -> float | None:
    return float(days * DAY_SECONDS) if days else None


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise UsageError(f"a token's name has 1 to {MAX_NAME_CHARS} characters")
    if not name.isprintable():
        raise UsageError("a token's name holds no control or invisible characters")


def _check_days(days: object) -> None:
    if type(days) is not int or not 0 <= days <= MAX_DAYS:
        raise UsageError(f"days is a whole number from 0 (unlimited) to {MAX_DAYS}")


def _check_paths(paths: Sequence[str]) -> None:
    if sum(len(path.encode(errors="replace")) + 3 for path in paths) > MAX_PATHS_BYTES:
        raise UsageError(f"a token's paths together have at most {MAX_PATHS_BYTES} bytes")
    for path in paths:
        try:
            compile_pattern(path)
        except ValueError as error:
            raise UsageError(str(error)) from None
