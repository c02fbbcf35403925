"""Which live tokens no route can admit, and whether there is any credential at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sidecar.cli.reach import url_of
from sidecar.cli.redis_settings import Finding, Severity
from sidecar.core.errors import StoreUnavailable, UsageError
from sidecar.core.pattern_cover import overlap, shape_of
from sidecar.core.pattern_index import PatternIndex

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.core.model import TokenRecord

_MOST_TOKENS: Final = 10_000
_BUDGET_SECONDS: Final = 2.0
_MOST_NAMED: Final = 20
_MOST_VISITED: Final = 300_000
_NO_CREDENTIAL: Final = (
    "nobody can pass yet: no account has a password or a live token, and no issuer is trusted "
    "(`sidecar token create` makes a token)"
)


async def try_tokens(settings: Settings) -> tuple[list[Finding], str]:
    """Return findings on the live tokens, or on as many as two seconds suffice to read.

    The text says so if there is no credential yet, which is no fault. Call it within
    ``reached_store``.
    """
    try:
        tokens, is_complete = await _read(settings)
    except (StoreUnavailable, UsageError):
        return [], ""  # what prevents it is found where permissions are tried
    found = [*_judge_paths(settings, tokens)]
    has_none = is_complete and _has_no_credential(settings, {token.account for token in tokens})
    return found, _NO_CREDENTIAL if has_none else ""


async def _read(settings: Settings) -> tuple[list[TokenRecord], bool]:
    """Return live tokens, and whether these are all."""
    from sidecar.runtime.parts import connect_archive

    tokens: dict[str, TokenRecord] = {}
    archive = connect_archive(
        url_of(settings), prefix=settings.store.prefix, budget_seconds=_BUDGET_SECONDS
    )
    try:
        async with asyncio.timeout(_BUDGET_SECONDS):
            async for batch in archive.export():
                tokens |= {exported.record.digest: exported.record for exported in batch.tokens}
                if len(tokens) >= _MOST_TOKENS:
                    return [*tokens.values()], False
    except TimeoutError:
        return [*tokens.values()], False
    finally:
        await archive.close()
    return [*tokens.values()], True


def _judge_paths(settings: Settings, tokens: list[TokenRecord]) -> Iterator[Finding]:
    routes = _AdmittingRoutes(settings)
    useless = [
        f"token {token.id} ({token.name}, of {token.account}): no route that lets its account in "
        f"matches {path}; make another with other paths, or add a route"
        for token in tokens
        for path in token.paths
        if not routes.can_serve(token.account, path)
    ]
    for text in useless[:_MOST_NAMED]:
        yield Finding(Severity.WARNING, text)
    if len(useless) > _MOST_NAMED:
        text = f"and {len(useless) - _MOST_NAMED} more paths of tokens that no route matches"
        yield Finding(Severity.WARNING, text)


class _AdmittingRoutes:
    """Tells which paths an account's tokens can be of use on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._index = PatternIndex()
        for number, route in enumerate(settings.routes):
            if not route.public:
                self._index.add(shape_of(route.path), number)

    def can_serve(self, account: str, path: str) -> bool:
        shape, known = shape_of(path), self._settings.known_accounts.get(account)
        allowed = [shape_of(one.text) for one in known.paths.patterns] if known is not None else []
        if allowed and not any(overlap(shape, one) for one in allowed):
            return False
        if self._index.visited > _MOST_VISITED:
            return True
        return self._index.has_path_with(shape, lambda number: self._admits(number, account))

    def _admits(self, number: int, account: str) -> bool:
        accounts, known = self._settings.routes[number].accounts, self._settings.known_accounts
        groups = known[account].groups if account in known else ()
        return not accounts or not {account, *(f"@{name}" for name in groups)}.isdisjoint(accounts)


def _has_no_credential(settings: Settings, with_tokens: set[str]) -> bool:
    """Tell whether no account can be used: no password, no issuer of JWTs, no live token.

    One that has none of these beside others that have is left alone: it may be new, or retired.
    """
    usable = [name for name, account in settings.known_accounts.items() if not account.disabled]
    if not usable or settings.jwt.trusted_issuers:
        return False
    return not any(
        settings.known_accounts[name].password_hash or name in with_tokens for name in usable
    )
