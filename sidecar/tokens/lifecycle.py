"""The life of a token: created, imported, listed, rotated, revoked. Everyone comes through here.

The command line, the page and the API all use this. Who may do what is theirs to check; a method
that takes an ``account`` beside an id sees only that account's tokens. What a token may be called
and how long it may live is in ``sidecar.core.token_rules``.

A time in a record is the whole second that has begun: a token lives at most its days, and less by
under a second.
"""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from sidecar.core import token_rules, tokens
from sidecar.core.errors import NameTaken, Overloaded, UsageError
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.core.policy import Account
from sidecar.core.token_rules import DAY_SECONDS
from sidecar.core.tokens import Entropy, Shape
from sidecar.core.unclaimed_jwts import NO_CLAIMANTS, Claimants
from sidecar.store.port import TokenStore

MOST_WAITING = 64
"""So many tokens of one account may wait to be created by a process; beyond it: ``Overloaded``."""

Signer = Callable[[TokenRecord], str]
"""Makes the JWT whose ``jti`` is the record's id and whose ``exp`` is its expiry."""


class UnknownToken(UsageError):
    """No live token has this id, or none of this account's has."""

    code: ClassVar[str] = "unknown_token"

    def __init__(self) -> None:
        super().__init__(
            "no live token has this id: it may have expired or been revoked; "
            "list the tokens to see which are live"
        )


class AlreadyRotated(UsageError):
    """The token has a live successor."""

    code: ClassVar[str] = "already_rotated"

    def __init__(self) -> None:
        super().__init__("this token has been rotated already: rotate its successor instead")


@dataclass(frozen=True, slots=True)
class TokenDetails:
    """A token as it is shown: never with its secret."""

    record: TokenRecord
    last_use: LastUse | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a string that may be a token."""

    shape: Shape
    record: TokenRecord | None
    """The live record; ``None``: unknown, expired or revoked."""


@dataclass(frozen=True, slots=True)
class _NewToken:
    """What a token is to be, once every rule has been checked."""

    account: str
    name: str
    lifetime_seconds: float | None
    paths: tuple[str, ...]


class Lifecycle:
    """Every change to tokens.

    All methods may raise ``StoreUnavailable``, and ``UsageError`` with what to do instead when the
    request can't be met. What creates a token may raise ``TooManyTokens``, and ``Overloaded`` when
    too many are requested at once.
    """

    def __init__(
        self,
        store: TokenStore,
        accounts: Mapping[str, Account],
        token_prefix: str,
        now: Callable[[], float],
        entropy: Entropy,
        signer: Signer | None = None,
        claimants: Claimants = NO_CLAIMANTS,
    ) -> None:
        """``claimants`` are the keys and issuers of JWTs that are not imported."""
        self._store = store
        self._accounts = accounts
        self._token_prefix = token_prefix
        self._now = now
        self._entropy = entropy
        self._signer = signer
        self._claimants = claimants
        self._locks = _AccountLocks()

    async def create(
        self,
        account: str,
        name: str,
        days: int,
        *,
        kind: TokenKind = TokenKind.ACCESS,
        paths: Sequence[str] = (),
    ) -> tuple[TokenRecord, str]:
        """Create a token that lives ``days`` (0: unlimited); its secret is returned this once.

        Spaces around the name, which nobody could see, are not part of it.
        Raises ``NameTaken`` when the account has a live token of this name.
        """
        wanted = self._check(account, name, days, paths)
        record, secret = self._make(wanted, kind)
        await self._store_new(record)
        return record, secret

    async def import_token(
        self, account: str, name: str, days: int, secret: str, paths: Sequence[str] = ()
    ) -> TokenRecord:
        """Accept a token of the system that is replaced, as it is; only its digest is kept.

        A JWT lives no longer than its ``exp``.
        Raises ``NameTaken`` when the account has a live token of this name.
        """
        wanted = self._check(account, name, days, paths)
        own_end = token_rules.check_importable(
            secret, self._token_prefix, self._claimants, self._now()
        )
        digest = tokens.digest(secret)
        if await self._store.look_up(digest) is not None:
            raise UsageError("this token has been imported already")
        record = self._record(wanted, TokenKind.IMPORTED, digest)
        record = record.replace(expires_at=token_rules.earlier_end(record.expires_at, own_end))
        await self._store_new(record)
        return record

    async def list(self, account: str | None = None) -> builtins.list[TokenDetails]:
        """Return the live tokens of one account, or of all, oldest first."""
        records = await self._store.list(account)
        uses = await self._store.last_uses(records)
        return [TokenDetails(record, uses.get(record.digest)) for record in records]

    async def show(self, token_id: str, account: str | None = None) -> TokenDetails:
        """Return one live token; raises ``UnknownToken``."""
        record = await self._find(token_id, account)
        uses = await self._store.last_uses([record])
        return TokenDetails(record, uses.get(record.digest))

    async def revoke(self, token_id: str, account: str | None = None) -> TokenRecord:
        """End a token at once and return what it was; raises ``UnknownToken``."""
        record = await self._find(token_id, account)
        await self._store.revoke(record)
        return record

    async def revoke_all(
        self, account: str, begin: Callable[[int], Callable[[int], None]] = lambda _: _ignore
    ) -> builtins.list[TokenRecord]:
        """End every token of an account, declared or not, and return what they were.

        ``begin`` is told how many there are, and returns what is told of each that has been ended.
        """
        records = await self._store.list(account)
        advance, revoked = begin(len(records)), []
        for record in records:
            if await self._store.revoke(record):
                revoked.append(record)
            advance(1)
        return revoked

    async def rotate(
        self, token_id: str, overlap_seconds: float, account: str | None = None
    ) -> tuple[TokenRecord, str]:
        """Create a successor with the same name, paths and lifetime.

        The old token lives on for ``overlap_seconds``. The lifetime is the one that the old token
        was created with, even if that has been cut short since.
        The successor of an imported token is an access token. Raises ``UnknownToken``, and
        ``AlreadyRotated`` when the token has a live successor.
        """
        token_rules.check_overlap(overlap_seconds)
        old = await self._find(token_id, account)
        owner = token_rules.check_account(old.account, self._accounts)
        token_rules.check_renewable(old.lifetime_seconds, owner)
        kind = TokenKind.JWT if old.kind is TokenKind.JWT else TokenKind.ACCESS
        wanted = _NewToken(old.account, old.name, old.lifetime_seconds, old.paths)
        successor, secret = self._make(wanted, kind)
        ends_at_once = not overlap_seconds
        async with self._room_for_one_more(old.account, old.id, ends_at_once=ends_at_once):
            try:
                await self._store.supersede(old, successor, overlap_seconds)
            except NameTaken:
                raise AlreadyRotated from None
        return successor, secret

    async def inspect(self, secret: str) -> Inspection:
        """Say what a string is; ask the store only if the string can be one of its tokens."""
        shape = tokens.classify(secret, self._token_prefix)
        can_be_known = shape in (Shape.ACCESS, Shape.OTHER)
        record = await self._store.look_up(tokens.digest(secret)) if can_be_known else None
        return Inspection(shape, record)

    async def _store_new(self, record: TokenRecord) -> None:
        async with self._room_for_one_more(record.account):
            try:
                await self._store.create(record)
            except NameTaken:
                raise NameTaken(
                    f"account {record.account} already has a token named {record.name!r}: "
                    "choose another name, or rotate that token"
                ) from None

    @asynccontextmanager
    async def _room_for_one_more(
        self, account: str, replaces: str = "", *, ends_at_once: bool = False
    ) -> AsyncIterator[None]:
        """Reserve a place for one more token; ``replaces`` is the id of the token it succeeds.

        Tokens that were rotated and live on have as many places again: so a token can be rotated at
        the limit, and rotating it over and over makes at most twice as many. Raises
        ``TooManyTokens``.
        """
        owner = self._accounts[account]
        if not owner.max_tokens:
            yield
            return
        async with self._locks.hold(account):
            if await self._store.count_at_most(account) >= owner.max_tokens:
                live = await self._store.list(account)
                current = [r for r in live if r.granted_until is None and r.id != replaces]
                token_rules.check_room(owner, len(current), len(live) - ends_at_once)
            yield

    async def _find(self, token_id: str, account: str | None) -> TokenRecord:
        record = await self._store.find(token_id, account)
        if record is None:
            raise UnknownToken
        return record

    def _make(self, wanted: _NewToken, kind: TokenKind) -> tuple[TokenRecord, str]:
        token_rules.check_kind(kind, can_issue_jwt=self._signer is not None)
        if kind is TokenKind.JWT and self._signer is not None:
            jti = tokens.new_id(self._entropy)
            record = self._record(wanted, kind, tokens.digest(jti), jti)
            return record, self._signer(record)
        secret = tokens.generate(self._token_prefix, self._entropy)
        return self._record(wanted, kind, tokens.digest(secret)), secret

    def _record(
        self, wanted: _NewToken, kind: TokenKind, digest: str, token_id: str | None = None
    ) -> TokenRecord:
        created_at = float(math.floor(self._now()))
        lifetime = wanted.lifetime_seconds
        return TokenRecord(
            id=token_id or tokens.new_id(self._entropy),
            account=wanted.account,
            name=wanted.name,
            kind=kind,
            digest=digest,
            created_at=created_at,
            expires_at=None if lifetime is None else created_at + lifetime,
            paths=wanted.paths,
        )

    def _check(self, account: str, name: str, days: int, paths: Sequence[str]) -> _NewToken:
        owner = token_rules.check_account(account, self._accounts)
        checked_name = token_rules.check_name(name)
        checked_days = token_rules.check_days(days, owner)
        lifetime = float(checked_days * DAY_SECONDS) if checked_days else None
        return _NewToken(account, checked_name, lifetime, token_rules.check_paths(paths))


class _AccountLocks:
    """Lets one task of each account through at a time, so that its count of tokens stays true.

    Each process has its own locks; another process may create a token in between.
    """

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    @asynccontextmanager
    async def hold(self, account: str) -> AsyncIterator[None]:
        """Wait for the account's lock and hold it. Raises ``Overloaded``."""
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


def _ignore(_: int) -> None:
    """Tell nobody."""
