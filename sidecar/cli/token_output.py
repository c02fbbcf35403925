"""Prints tokens: for people, or as the JSON object that all commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sidecar.cli.foreign_jwt import DENIALS_ACCOUNT
from sidecar.cli.options import print_json
from sidecar.cli.table import print_table
from sidecar.core.model import LastUse, TokenRecord
from sidecar.core.times import optional_rfc3339


def as_object(record: TokenRecord, use: LastUse | None = None) -> dict[str, object]:
    """Return a token as every ``--json`` shows it."""
    return {
        "id": record.id,
        "account": record.account,
        "name": record.name,
        "kind": str(record.kind),
        "created_at": optional_rfc3339(record.created_at),
        "expires_at": optional_rfc3339(record.expires_at),
        "last_used_at": optional_rfc3339(use.at if use else None),
        "paths": list(record.paths),
    }


def print_made(record: TokenRecord, token: str, arguments: argparse.Namespace) -> int:
    """Print a new token, and its description on standard error; return the exit status."""
    if arguments.json:
        print_json({**as_object(record), "token": token})
        return 0
    print(token)
    end = optional_rfc3339(record.expires_at)
    life = f"expires {end}" if end else "never expires"
    description = (
        f"Token {record.id}, {record.name!r} of {record.account}, {life}. It is shown only once."
    )
    print(description, file=sys.stderr)
    return 0


def print_one(token: dict[str, object], arguments: argparse.Namespace) -> int:
    """Print one token; return the exit status."""
    if arguments.json:
        print_json(token)
    else:
        print_table([token])
    return 0


def print_revoked(records: Sequence[TokenRecord], arguments: argparse.Namespace) -> int:
    """Print the tokens that were revoked; return the exit status."""
    if arguments.json:
        print_json([as_object(record) for record in records])
        return 0
    for record in records:
        what = "lifted the denial" if record.account == DENIALS_ACCOUNT else "revoked"
        print(f"{what} {record.id}, {record.name!r} of {record.account}")
    return 0
