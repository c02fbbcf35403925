"""``sidecar token``: the admin's door to the life of tokens."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.cli.options import Commands, add_config, add_json, load_settings, print_json
from sidecar.cli.table import print_table
from sidecar.cli.times import to_rfc3339
from sidecar.core.errors import NameTaken, UsageError
from sidecar.core.model import LastUse, TokenRecord

if TYPE_CHECKING:
    from sidecar.lifecycle import Lifecycle

Action = Callable[["Lifecycle", argparse.Namespace], Awaitable[int]]

OVERLAP_SECONDS = 3600.0
MAX_INPUT_BYTES = 16384


def add_to(commands: Commands) -> None:
    """Add the group."""
    group = commands.add_parser("token", help="create, list, show, revoke, rotate, import, inspect")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    _add_create(actions)
    _add_import(actions)
    _add_list(actions)
    _add_show(actions)
    _add_revoke(actions)
    _add_rotate(actions)
    _add_inspect(actions)


def _add(actions: Commands, name: str, action: Action, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
    parser.set_defaults(run=lambda arguments: asyncio.run(_with_lifecycle(action, arguments)))
    add_config(parser)
    add_json(parser)
    return parser


def _add_create(actions: Commands) -> None:
    about = "Make a token; it alone goes to standard output, and it is shown this once."
    parser = _add(actions, "create", _create, about)
    _add_description_of_token(parser)
    parser.add_argument("--kind", choices=["access"], default="access", help="default: access")


def _add_import(actions: Commands) -> None:
    about = "Take over a token of another system; it is read from standard input."
    _add_description_of_token(_add(actions, "import", _import, about))


def _add_description_of_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="A", required=True, help="whom it belongs to")
    parser.add_argument("--name", metavar="N", required=True, help="1 to 100 characters")
    parser.add_argument(
        "--days", metavar="D", required=True, type=_days, help="lifetime in days; 0: unlimited"
    )
    parser.add_argument(
        "--path",
        metavar="P",
        dest="paths",
        action="append",
        default=[],
        help="a path pattern it is limited to; may be given more than once",
    )


def _add_list(actions: Commands) -> None:
    parser = _add(actions, "list", _list, "List live tokens, oldest first.")
    parser.add_argument("--account", metavar="A", help="those of one account")


def _add_show(actions: Commands) -> None:
    _add_id(_add(actions, "show", _show, "Show one token's record."))


def _add_revoke(actions: Commands) -> None:
    about = "Revoke one token by its id, or all of an account: they are refused from then on."
    parser = _add(actions, "revoke", _revoke, about)
    parser.add_argument("id", metavar="ID", nargs="?", help="the token's id")
    parser.add_argument("--account", metavar="A", help="with --all: whose tokens")
    parser.add_argument("--all", action="store_true", help="all tokens of the account")


def _add_rotate(actions: Commands) -> None:
    about = (
        "Make a successor with the same name, paths and lifetime; the old one lives on for a while."
    )
    parser = _add(actions, "rotate", _rotate, about)
    _add_id(parser)
    parser.add_argument(
        "--overlap",
        metavar="TIME",
        type=_duration,
        default=OVERLAP_SECONDS,
        help="how long the old one still works (default: 1h)",
    )


def _add_inspect(actions: Commands) -> None:
    _add(actions, "inspect", _inspect, "Say what a token is; it is read from standard input.")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the token's id, as `sidecar token list` has it")


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise argparse.ArgumentTypeError("write a whole number of days; 0 means unlimited")
    return int(text)


def _duration(text: str) -> float:
    from sidecar.config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def _with_lifecycle(action: Action, arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    from sidecar.app import opened_store
    from sidecar.lifecycle import Lifecycle

    async with opened_store(settings) as store:
        try:
            return await action(Lifecycle(store, settings), arguments)
        except NameTaken as taken:
            print(f"sidecar: {taken}", file=sys.stderr)
            return 1


async def _create(lifecycle: Lifecycle, asked: argparse.Namespace) -> int:
    made = await lifecycle.create(asked.account, asked.name, asked.days, tuple(asked.paths))
    _print_made(made.record, made.token, asked)
    return 0


async def _import(lifecycle: Lifecycle, asked: argparse.Namespace) -> int:
    record = await lifecycle.import_token(
        _read_token(), asked.account, asked.name, asked.days, tuple(asked.paths)
    )
    _print_one(record, None, asked)
    return 0


async def _list(lifecycle: Lifecycle, asked: argparse.Namespace) -> int:
    found = await lifecycle.list(asked.account)
    objects = [as_object(record, use) for record, use in found]
    if asked.json:
        print_json(objects)
    else:
        print_table(objects)
    return 0


async def _show(lifecycle: Lifecycle, asked: argparse.Namespace) -> int:
    found = await lifecycle.show(asked.id)
    return _print_found(found, f"no live token has the id {asked.id}", asked)


async def _inspect(lifecycle: Lifecycle, asked: argparse.Namespace) -> int:
    return _print_found(await lifecycle.inspect(_read_token()), "the token is not known", asked)


async def _revoke(lifecycle: Lifecycle, asked: argparse.Namespace) -> int:
    if asked.all == (asked.id is not None) or asked.all != (asked.account is not None):
        raise UsageError("revoke takes the ID of one token, or --account A --all")
    if asked.all:
        return _print_revoked(await lifecycle.revoke_all(asked.account), asked)
    revoked = await lifecycle.revoke(asked.id)
    if revoked is None:
        return _fail(f"no live token has the id {asked.id}")
    return _print_revoked([revoked], asked)


async def _rotate(lifecycle: Lifecycle, asked: argparse.Namespace) -> int:
    made = await lifecycle.rotate(asked.id, asked.overlap)
    if made is None:
        return _fail(f"no live token has the id {asked.id}")
    _print_made(made.record, made.token, asked)
    return 0


def _read_token() -> str:
    """Return what standard input holds, less the white space around it; no echo on a terminal."""
    if sys.stdin.isatty():
        return getpass.getpass("Token: ").strip()
    text = sys.stdin.buffer.read(MAX_INPUT_BYTES).decode("utf-8", "replace").strip()
    if not text:
        raise UsageError("no token came on standard input; pipe it in, so that no shell keeps it")
    return text


def as_object(record: TokenRecord, use: LastUse | None = None) -> dict[str, object]:
    """Return a token as every ``--json`` shows it."""
    return {
        "id": record.id,
        "account": record.account,
        "name": record.name,
        "kind": str(record.kind),
        "created_at": to_rfc3339(record.created_at),
        "expires_at": to_rfc3339(record.expires_at),
        "last_used_at": to_rfc3339(use.at if use else None),
        "paths": list(record.paths),
    }


def _print_made(record: TokenRecord, token: str, asked: argparse.Namespace) -> None:
    if asked.json:
        print_json({**as_object(record), "token": token})
        return
    print(token)
    end = to_rfc3339(record.expires_at)
    life = f"expires {end}" if end else "never expires"
    print(
        f"Token {record.id}, {record.name!r} of {record.account}, {life}. It is shown this once.",
        file=sys.stderr,
    )


def _print_one(record: TokenRecord, use: LastUse | None, asked: argparse.Namespace) -> None:
    described = as_object(record, use)
    if asked.json:
        print_json(described)
    else:
        print_table([described])


def _print_found(
    found: tuple[TokenRecord, LastUse | None] | None, absent: str, asked: argparse.Namespace
) -> int:
    if found is None:
        return _fail(absent)
    _print_one(*found, asked)
    return 0


def _print_revoked(records: Sequence[TokenRecord], asked: argparse.Namespace) -> int:
    if asked.json:
        print_json([as_object(record) for record in records])
    else:
        for record in records:
            print(f"revoked {record.id} ({record.name!r} of {record.account})")
    return 0


def _fail(reason: str) -> int:
    print(f"sidecar: {reason}", file=sys.stderr)
    return 1
