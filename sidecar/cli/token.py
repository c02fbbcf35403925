"""``sidecar token``: the admin's door to the life of tokens."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.cli import foreign_jwt, jwt_report
from sidecar.cli.auditing import audit_of
from sidecar.cli.options import Subparsers, add_config, add_json, load_settings, print_json
from sidecar.cli.reach import lifecycle_on, reached_store
from sidecar.cli.table import print_table
from sidecar.cli.times import to_rfc3339
from sidecar.cli.token_output import as_object, print_made, print_one, print_revoked
from sidecar.core.errors import NameTaken, UsageError
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.token_rules import (
    MAX_NAME_CHARS,
    InvalidField,
    TooManyTokens,
    describe_undeclared,
    parse_days,
)
from sidecar.core.tokens import Shape
from sidecar.observability.audit import Actor, AuditLog

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.store.port import TokenStore
    from sidecar.tokens.lifecycle import Lifecycle

OVERLAP_SECONDS = 3600.0
MAX_INPUT_BYTES = 16384

_UNKNOWN = {
    Shape.BAD_CHECKSUM: "this looks like one of our access tokens, but its checksum is wrong",
    Shape.UNREADABLE: "this is no token: a token is 16 to 4096 visible ASCII characters",
}


@dataclass(frozen=True, slots=True)
class _Reached:
    """What an action works on."""

    settings: Settings
    store: TokenStore
    lifecycle: Lifecycle
    audit: AuditLog


Action = Callable[[_Reached, argparse.Namespace], Awaitable[int]]


def add_to(commands: Subparsers) -> None:
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


def _add(actions: Subparsers, name: str, action: Action, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
    parser.set_defaults(run=lambda arguments: asyncio.run(_with_lifecycle(action, arguments)))
    add_config(parser)
    add_json(parser)
    return parser


def _add_create(actions: Subparsers) -> None:
    about = "Make a token; it alone goes to standard output, and it is shown this once."
    parser = _add(actions, "create", _create, about)
    _add_description_of_token(parser)
    parser.add_argument(
        "--kind", choices=["access", "jwt"], default="access", help="default: access"
    )


def _add_import(actions: Subparsers) -> None:
    about = "Take over a token of another system; it is read from standard input."
    _add_description_of_token(_add(actions, "import", _import, about))


def _add_description_of_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="A", required=True, help="whom it belongs to")
    parser.add_argument(
        "--name", metavar="N", required=True, help=f"1 to {MAX_NAME_CHARS} characters"
    )
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


def _add_list(actions: Subparsers) -> None:
    parser = _add(actions, "list", _list, "List live tokens, oldest first.")
    parser.add_argument("--account", metavar="A", help="those of one account")


def _add_show(actions: Subparsers) -> None:
    _add_id(_add(actions, "show", _show, "Show one token's record."))


def _add_revoke(actions: Subparsers) -> None:
    about = (
        "Revoke one token by its id, all of an account, or a trusted issuer's JWT by its jti: "
        "they are refused from then on."
    )
    parser = _add(actions, "revoke", _revoke, about)
    parser.add_argument("id", metavar="ID", nargs="?", help="the token's id")
    parser.add_argument("--account", metavar="A", help="whose; needed with --all")
    parser.add_argument("--all", action="store_true", help="all tokens of the account")
    parser.add_argument("--issuer", metavar="ISS", help="a trusted issuer, with --jti")
    parser.add_argument("--jti", metavar="JTI", help="the jti of that issuer's JWT")
    parser.add_argument(
        "--days",
        metavar="D",
        type=_days,
        default=foreign_jwt.DENIED_DAYS,
        help=f"with --jti: for how long; 0: for ever (default: {foreign_jwt.DENIED_DAYS})",
    )


def _add_rotate(actions: Subparsers) -> None:
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


def _add_inspect(actions: Subparsers) -> None:
    _add(actions, "inspect", _inspect, "Say what a token is; it is read from standard input.")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the token's id, as `sidecar token list` has it")


def _days(text: str) -> int:
    try:
        return parse_days(text)
    except InvalidField as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _duration(text: str) -> float:
    from sidecar.config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def _with_lifecycle(action: Action, arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    from sidecar.tokens.lifecycle import AlreadyRotated, UnknownToken

    async with reached_store(settings) as store:
        reached = _Reached(settings, store, lifecycle_on(store, settings), audit_of(settings))
        try:
            return await action(reached, arguments)
        except (NameTaken, TooManyTokens, UnknownToken, AlreadyRotated) as error:
            return _fail(str(error))


async def _create(reached: _Reached, asked: argparse.Namespace) -> int:
    record, token = await reached.lifecycle.create(
        asked.account, asked.name, asked.days, kind=TokenKind(asked.kind), paths=asked.paths
    )
    reached.audit.token_created(record, None, Actor.CLI)
    return print_made(record, token, asked)


async def _import(reached: _Reached, asked: argparse.Namespace) -> int:
    record = await reached.lifecycle.import_token(
        asked.account, asked.name, asked.days, _read_token(), asked.paths
    )
    reached.audit.token_imported(record, None, Actor.CLI)
    return print_one(as_object(record), asked)


async def _list(reached: _Reached, asked: argparse.Namespace) -> int:
    found = await reached.lifecycle.list(asked.account)
    objects = [as_object(token.record, token.last_use) for token in found]
    if asked.json:
        print_json(objects)
    else:
        print_table(objects)
    if not objects:
        print(f"sidecar: {_describe_nothing(asked.account, reached)}", file=sys.stderr)
    return 0


def _describe_nothing(account: str | None, reached: _Reached) -> str:
    """Say that there are no tokens, and that a name may be mistyped."""
    if account is None or account in reached.settings.accounts:
        return "there is no live token" + (f" of account {account}" if account else "")
    undeclared = describe_undeclared(account, reached.settings.accounts)
    return f"there is no live token of account {account!r}, and {undeclared}"


async def _show(reached: _Reached, asked: argparse.Namespace) -> int:
    token = await reached.lifecycle.show(asked.id)
    return print_one(as_object(token.record, token.last_use), asked)


async def _inspect(reached: _Reached, asked: argparse.Namespace) -> int:
    secret = _read_token()
    found = await reached.lifecycle.inspect(secret)
    if found.shape is Shape.JWT:
        return await _inspect_jwt(secret, reached, asked)
    if found.record is None:
        return _fail(_UNKNOWN.get(found.shape, "the token is unknown, expired or revoked"))
    return await _print_used(found.record, reached, asked)


async def _inspect_jwt(secret: str, reached: _Reached, asked: argparse.Namespace) -> int:
    report = await jwt_report.judge_jwt(secret, reached.settings, reached.store)
    if report.record is not None:
        return await _print_used(report.record, reached, asked)
    if report.foreign is not None:
        print_one(jwt_report.as_object(report.foreign), asked)
        return _judge_account(report.foreign.account, reached)
    return _fail(report.problem)


async def _print_used(record: TokenRecord, reached: _Reached, asked: argparse.Namespace) -> int:
    token = await reached.lifecycle.show(record.id, record.account)
    print_one(as_object(token.record, token.last_use), asked)
    return _judge_account(record.account, reached)


def _judge_account(account: str, reached: _Reached) -> int:
    """Say why a good token is refused all the same, if it is; return the exit status."""
    declared = reached.settings.accounts.get(account)
    if declared is not None and not declared.disabled:
        return 0
    if declared is not None:
        return _fail(f"it is refused: account {account} is disabled")
    return _fail(f"it is refused: {describe_undeclared(account, reached.settings.accounts)}")


async def _revoke(reached: _Reached, asked: argparse.Namespace) -> int:
    is_foreign = asked.issuer is not None or asked.jti is not None
    if asked.all + (asked.id is not None) + is_foreign != 1 or not _is_complete(asked, is_foreign):
        raise UsageError(
            "revoke takes the ID of one token, or --account A --all, or --issuer ISS --jti JTI"
        )
    if is_foreign:
        return await _deny(reached, asked)
    if asked.all:
        revoked = await reached.lifecycle.revoke_all(asked.account)
    else:
        revoked = [await reached.lifecycle.revoke(asked.id, asked.account)]
    for record in revoked:
        reached.audit.token_revoked(record, None, Actor.CLI)
    print_revoked(revoked, asked)
    if revoked:
        return 0
    print(f"sidecar: {_describe_nothing(asked.account, reached)}", file=sys.stderr)
    return 0 if asked.account in reached.settings.accounts else 1


def _is_complete(asked: argparse.Namespace, is_foreign: bool) -> bool:
    if is_foreign:
        return asked.account is None and asked.issuer is not None and asked.jti is not None
    return not asked.all or asked.account is not None


async def _deny(reached: _Reached, asked: argparse.Namespace) -> int:
    record = await foreign_jwt.deny(
        reached.store, reached.settings, asked.issuer, asked.jti, asked.days
    )
    reached.audit.token_created(record, None, Actor.CLI)
    if asked.json:
        print_json([as_object(record)])
        return 0
    end = to_rfc3339(record.expires_at)
    print(f"denied {'until ' + end if end else 'for ever'}; revoking {record.id} lifts it")
    return 0


async def _rotate(reached: _Reached, asked: argparse.Namespace) -> int:
    successor, token = await reached.lifecycle.rotate(asked.id, asked.overlap)
    reached.audit.token_rotated(successor, asked.id, None, Actor.CLI)
    return print_made(successor, token, asked)


def _read_token() -> str:
    """Return what standard input holds, less the white space around it; no echo on a terminal."""
    if sys.stdin.isatty():
        return getpass.getpass("Token: ").strip()
    text = sys.stdin.buffer.read(MAX_INPUT_BYTES).decode("utf-8", "replace").strip()
    if not text:
        raise UsageError("no token came on standard input; pipe it in, so that no shell keeps it")
    return text


def _fail(reason: str) -> int:
    print(f"sidecar: {reason}", file=sys.stderr)
    return 1
