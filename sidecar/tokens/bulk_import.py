"""Imports many tokens of another system: all are compared with the store before one is written.

Importing again changes nothing: a token that is there with the same account, name and paths is
present, whatever its expiry. A name that somebody else takes between the comparison and the import
keeps its holder, and the imported token is listed without reserving it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from sidecar.core import token_rules, tokens
from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.policy import Account
from sidecar.core.token_rules import TooManyTokens
from sidecar.core.tokens import Entropy
from sidecar.store.port import MOST_RESTORED, Exported, Outcome, TokenArchive, TokenStore
from sidecar.tokens.import_rows import ImportRow
from sidecar.tokens.staging import Staging, State

_REFUSED: Final = {
    Outcome.DIFFERENT: "this token is in the store with another account, name or paths, and stays "
    "as it is; revoke it first to import this one",
    Outcome.NAME_TAKEN: "the account already has a live token of this name",
    Outcome.ID_TAKEN: "its id was taken meanwhile; import the file again",
}

Refuse = Callable[[int, str], None]
"""Told of each row that is not imported: its line, and why."""


class BulkImport:
    """One import. ``advance`` is told how many rows a step has dealt with."""

    def __init__(
        self,
        archive: TokenArchive,
        store: TokenStore,
        staging: Staging,
        refuse: Refuse,
        advance: Callable[[int], None],
    ) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        """What became of the rows so far; of those that are to be imported, only once they are."""
        self._archive = archive
        self._store = store
        self._staging = staging
        self._refuse = refuse
        self.advance = advance

    async def compare(self, accounts: Mapping[str, Account], now: Callable[[], float]) -> None:
        """Find out what is to be imported, without writing. May raise ``StoreUnavailable``."""
        for rows in self._staging.batches(State.UNKNOWN, MOST_RESTORED):
            records = [_record(row, "", now) for row in rows]
            outcomes = await self._archive.compare(records)
            new = []
            for row, outcome in zip(rows, outcomes, strict=True):
                if outcome is Outcome.CREATED:
                    new.append(row.line)
                else:
                    self._note(row, outcome)
            self._staging.mark(new, State.NEW)
            self.advance(len(rows))
        for account, number in self._staging.new_by_account().items():
            await self._keep_to_limit(accounts[account], number)

    async def _keep_to_limit(self, account: Account, number: int) -> None:
        """Refuse the rows for which the account has no room."""
        most = account.max_tokens
        if not most or await self._store.count_at_most(account.name) + number <= most:
            return
        live = await self._store.list(account.name)
        current = sum(record.granted_until is None for record in live)
        lines = self._staging.new_lines_of(account.name, max(0, most - current))
        for line in lines:
            try:
                token_rules.check_room(account, max(most, current), len(live))
            except TooManyTokens as error:
                self._refuse(line, str(error))
        self._staging.mark(lines, State.SETTLED)

    async def write(self, now: Callable[[], float], entropy: Entropy) -> None:
        """Import what is new. After a ``StoreUnavailable``, importing again goes on from there."""
        for rows in self._staging.batches(State.NEW, MOST_RESTORED):
            records = [_record(row, tokens.new_id(entropy), now) for row in rows]
            try:
                outcomes = await self._archive.restore([Exported(record) for record in records])
            except StoreUnavailable as fault:
                raise StoreUnavailable(
                    f"{fault}; the lines before line {rows[0].line} are imported. Run the command "
                    "again: nothing is imported twice"
                ) from None
            for row, outcome in zip(rows, outcomes, strict=True):
                self._note(row, outcome)
            self.advance(len(rows))

    def _note(self, row: ImportRow, outcome: Outcome) -> None:
        self.outcomes[outcome] += 1
        if outcome in _REFUSED:
            self._refuse(row.line, _REFUSED[outcome])


def _record(row: ImportRow, token_id: str, now: Callable[[], float]) -> TokenRecord:
    return TokenRecord(
        id=token_id,
        account=row.account,
        name=row.name,
        kind=TokenKind.IMPORTED,
        digest=row.digest,
        created_at=float(math.floor(now())),
        expires_at=row.expires_at,
        paths=row.paths,
    )
