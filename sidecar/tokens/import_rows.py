"""What one row of a file of tokens means: which token it is, and whether it may be imported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sidecar.core import token_rules, tokens
from sidecar.core.errors import UsageError
from sidecar.core.policy import Account
from sidecar.core.times import from_rfc3339
from sidecar.core.token_rules import DAY_SECONDS, InvalidField
from sidecar.core.tokens import Shape
from sidecar.core.unclaimed_jwts import Claimants

REQUIRED_COLUMNS: Final = ("token", "account", "name")
LIFETIME_COLUMNS: Final = ("days", "expires_at")
COLUMNS: Final = (*REQUIRED_COLUMNS, *LIFETIME_COLUMNS, "paths")


class ImportRow(NamedTuple):
    """A token that is to be imported. The token itself is not in it, only its digest."""

    line: int
    digest: str
    account: str
    name: str
    expires_at: float | None
    """Unix seconds; ``None``: unlimited."""
    paths: tuple[str, ...]


class RowReader:
    """Reads rows by the rules of the configuration. ``now`` returns Unix seconds."""

    def __init__(
        self,
        accounts: Mapping[str, Account],
        token_prefix: str,
        claimants: Claimants,
        now: Callable[[], float],
    ) -> None:
        self.jwts = 0
        """How many rows held a JWT."""
        self._accounts = accounts
        self._token_prefix = token_prefix
        self._claimants = claimants
        self._created_at = float(math.floor(now()))

    def read(self, line: int, cells: Mapping[str, str]) -> ImportRow:
        """Return the row whose cells these are, by column.

        Raises ``UsageError``, which says what is wrong and never repeats the token.
        """
        secret = cells["token"].strip()
        if not secret:
            raise UsageError("the token is missing")
        own_end = token_rules.check_importable(
            secret, self._token_prefix, self._claimants, self._created_at
        )
        self.jwts += tokens.classify(secret, self._token_prefix) is Shape.JWT
        owner = token_rules.check_account(cells["account"].strip(), self._accounts)
        return ImportRow(
            line,
            tokens.digest(secret),
            owner.name,
            token_rules.check_name(cells["name"]),
            token_rules.earlier_end(self._end(cells, owner), own_end),
            token_rules.check_paths(cells.get("paths", "").split()),
        )

    def _end(self, cells: Mapping[str, str], owner: Account) -> float | None:
        days = cells.get("days", "").strip()
        end = cells.get("expires_at", "").strip()
        if bool(days) is bool(end):
            raise InvalidField("days", "give either days (0: unlimited) or expires_at")
        if days:
            number = token_rules.check_days(token_rules.parse_days(days), owner)
            return self._created_at + number * DAY_SECONDS if number else None
        try:
            expires_at = from_rfc3339(end)
        except ValueError as error:
            raise InvalidField("expires_at", f"expires_at is {error}") from None
        most = owner.max_token_days
        if most and expires_at > self._created_at + most * DAY_SECONDS:
            raise InvalidField(
                "expires_at", f"no token of account {owner.name} may live longer than {most} days"
            )
        return expires_at
