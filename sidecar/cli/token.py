"""``sidecar token``: how an admin creates, lists, rotates, revokes and inspects tokens."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.cli import foreign_jwt, jwt_report
from sidecar.cli.auditing import open_audit_log
from sidecar.cli.claimed_account import find_claimed
from sidecar.cli.color import paint_problem
from sidecar.cli.import_report import advise_issuer
from sidecar.cli.options import (
    Subparsers,
    add_config,
    add_json,
    first_sentence,
    load_settings,
    print_json,
)
from sidecar.cli.progress import activity, progress
from sidecar.cli.reach import lifecycle_on, reached_store
from sidecar.cli.standard_input import read_token
from sidecar.cli.table import print_list
from sidecar.cli.token_output import as_object, print_made, print_one, print_revoked
from sidecar.core.errors import NameTaken, UsageError
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.times import optional_rfc3339
from sidecar.core.token_rules import (
    DEFAULT_OVERLAP,
    MAX_NAME_CHARS,
    InvalidField,
    TooManyTokens,
    describe_undeclared,
    parse_days,
)
from sidecar.core.tokens import Shape, classify
from sidecar.observability.audit import Actor, AuditLog

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.store.port import TokenStore
    from sidecar.tokens.lifecycle import Lifecycle

_BAD_CHECKSUM = "this looks like one of our access tokens, but its checksum is wrong"
_UNREADABLE = "this is not a token: a token is 16 to 4096 visible ASCII characters"
_UNKNOWN = "the token is unknown, expired or revoked"

_EXAMPLES = {
    "create": (
        "sidecar token create --account acme --name shop --days 365",
        "sidecar token create --account acme --name erp --days 0 --path '/v1/orders/**'",
        "TOKEN=$(sidecar token create --account acme --name ci --days 1 --kind jwt)",
    ),
    "import": (
        "sidecar token import --account acme --name old --days 0 <old-token.txt",
        "sidecar token import --file tokens.csv",
        "sidecar token import --file tokens.csv --skip-invalid --json",
    ),
    "list": (
        "sidecar token list",
        "sidecar token list --account acme",
        "sidecar token list --json | jq -r '.[].id'",
    ),
    "show": ("sidecar token show 4cYzVn0Ws1aQ7d", "sidecar token show 4cYzVn0Ws1aQ7d --json"),
    "revoke": (
        "sidecar token revoke 4cYzVn0Ws1aQ7d",
        "sidecar token revoke --account acme --all",
        "sidecar token revoke --issuer https://login.example.com/ --jti 5f1c9e",
    ),
    "rotate": (
        "sidecar token rotate 4cYzVn0Ws1aQ7d",
        "sidecar token rotate 4cYzVn0Ws1aQ7d --overlap 14d",
    ),
    "inspect": (
        "sidecar token inspect",
        'printf %s "$TOKEN" | sidecar token inspect --json',
    ),
}


@dataclass(frozen=True, slots=True)
class _Context:
    """What every action works with."""

    settings: Settings
    store: TokenStore
    lifecycle: Lifecycle
    audit: AuditLog


TokenAction = Callable[[_Context, argparse.Namespace], Awaitable[int]]


def add_to(commands: Subparsers) -> None:
    """Add the group."""
    group = commands.add_parser(
        "token",
        help="create, list, show, revoke, rotate, import, inspect",
        description="Create, list, show, revoke, rotate and import tokens, and say what one is.",
    )
    actions = group.add_commands("ACTION")
    _add_create(actions)
    _add_import(actions)
    _add_list(actions)
    _add_show(actions)
    _add_revoke(actions)
    _add_rotate(actions)
    _add_inspect(actions)


def _add(
    actions: Subparsers, name: str, action: TokenAction, about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=first_sentence(about), description=about, examples=_EXAMPLES[name]
    )
    parser.set_defaults(run=lambda arguments: asyncio.run(_with_lifecycle(action, arguments)))
    add_config(parser)
    add_json(parser)
    return parser


def _add_create(actions: Subparsers) -> None:
    about = "Create a token and print it, alone, on standard output. It is shown only once."
    parser = _add(actions, "create", _create, about)
    _add_token_fields(parser)
    parser.add_argument(
        "--kind",
        choices=["access", "jwt"],
        default="access",
        help="an opaque access token, or a JWT signed with the first of jwt.keys (default: access)",
    )


def _add_import(actions: Subparsers) -> None:
    about = (
        "Import a token of another system, read from standard input, or many from a CSV file. The "
        "first line of the file names its columns: token, account, name, days or expires_at, and "
        "paths separated by spaces. The whole file is checked first. Importing it again changes "
        "nothing. Exit status 1 if a line could not be imported."
    )
    parser = _add(actions, "import", _import, about)
    _add_token_fields(parser, is_required=False)
    parser.add_argument(
        "--file", metavar="FILE", type=Path, help="a CSV file of tokens; -: standard input"
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="with --file: import the valid lines of a file that has invalid ones",
    )
    parser.set_defaults(run=_run_import)


def _run_import(arguments: argparse.Namespace) -> int:
    """Import one token, or those of a file."""
    of_one = (arguments.account, arguments.name, arguments.days)
    if arguments.file is None and None not in of_one and not arguments.skip_invalid:
        return asyncio.run(_with_lifecycle(_import, arguments))
    if arguments.file is None or of_one != (None, None, None) or arguments.paths:
        raise UsageError(
            "import takes --account, --name and --days for one token, or --file for many"
        )
    from sidecar.cli.token_import import import_file

    return asyncio.run(import_file(arguments))


def _add_token_fields(parser: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    parser.add_argument(
        "--account", metavar="A", required=is_required, help="the account it belongs to"
    )
    parser.add_argument(
        "--name", metavar="N", required=is_required, help=f"1 to {MAX_NAME_CHARS} characters"
    )
    parser.add_argument(
        "--days",
        metavar="D",
        required=is_required,
        type=_days,
        help="lifetime in days; 0: unlimited",
    )
    parser.add_argument(
        "--path",
        metavar="P",
        dest="paths",
        action="append",
        default=[],
        help="a path pattern that it is limited to; may be repeated",
    )


def _add_list(actions: Subparsers) -> None:
    parser = _add(actions, "list", _list, "List live tokens, oldest first.")
    parser.add_argument("--account", metavar="A", help="only those of this account")


def _add_show(actions: Subparsers) -> None:
    _add_id(_add(actions, "show", _show, "Show one token."))


def _add_revoke(actions: Subparsers) -> None:
    about = (
        "Revoke one token by its id, all tokens of an account, or a trusted issuer's JWT by its "
        "jti. They are refused from then on."
    )
    parser = _add(actions, "revoke", _revoke, about)
    parser.add_argument("id", metavar="ID", nargs="?", help="the token's id")
    parser.add_argument("--account", metavar="A", help="the account; needed with --all")
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
        "Create a successor with the same name, paths and lifetime; the old token lives on a while."
    )
    parser = _add(actions, "rotate", _rotate, about)
    _add_id(parser)
    parser.add_argument(
        "--overlap",
        metavar="TIME",
        type=_duration,
        default=DEFAULT_OVERLAP,
        help=f"how long the old token keeps working (default: {DEFAULT_OVERLAP})",
    )


def _add_inspect(actions: Subparsers) -> None:
    _add(actions, "inspect", _inspect, "Say what a token is, read from standard input.")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the token's id, from `sidecar token list`")


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


async def _with_lifecycle(action: TokenAction, arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    from sidecar.tokens.lifecycle import AlreadyRotated, UnknownToken

    async with reached_store(settings) as store:
        context = _Context(settings, store, lifecycle_on(store, settings), open_audit_log(settings))
        try:
            return await action(context, arguments)
        except (NameTaken, TooManyTokens, UnknownToken, AlreadyRotated) as error:
            return _fail(str(error))


async def _create(context: _Context, arguments: argparse.Namespace) -> int:
    record, token = await context.lifecycle.create(
        arguments.account,
        arguments.name,
        arguments.days,
        kind=TokenKind(arguments.kind),
        paths=arguments.paths,
    )
    context.audit.token_created(record, None, Actor.CLI)
    return print_made(record, token, arguments)


async def _import(context: _Context, arguments: argparse.Namespace) -> int:
    secret = read_token()
    record = await context.lifecycle.import_token(
        arguments.account, arguments.name, arguments.days, secret, arguments.paths
    )
    context.audit.token_imported(record, None, Actor.CLI)
    if classify(secret, context.settings.tokens.prefix) is Shape.JWT:
        print(f"note: {advise_issuer(1)}", file=sys.stderr)
    slip = _describe_slip(secret)
    if slip:
        print(
            f"note: {slip} It was imported with all its characters. If that is not what callers "
            f"send, revoke {record.id} and import the token alone",
            file=sys.stderr,
        )
    return print_one(as_object(record), arguments)


def _describe_slip(secret: str) -> str:
    """Return a sentence on what a string has, or lacks, that a token alone would not; or empty."""
    from sidecar.core.credential_faults import find_slip

    slip = find_slip(secret)
    return "" if slip is None else slip.denial_in("standard input").detail


async def _list(context: _Context, arguments: argparse.Namespace) -> int:
    with activity("read the tokens"):
        found = await context.lifecycle.list(arguments.account)
    objects = [as_object(token.record, token.last_use) for token in found]
    nothing = f"sidecar: {_describe_nothing(arguments.account, context)}"
    print_list(objects, arguments, nothing)
    if not objects and arguments.json:  # the account may be mistyped, which [] does not say
        print(nothing, file=sys.stderr)
    return 0


def _describe_nothing(account: str | None, context: _Context) -> str:
    """Say that there are no tokens, and whether the account's name may be mistyped."""
    if account is None or account in context.settings.known_accounts:
        return "there is no live token" + (f" of account {account}" if account else "")
    undeclared = describe_undeclared(account, context.settings.known_accounts)
    return f"there is no live token of account {account!r}, and {undeclared}"


async def _show(context: _Context, arguments: argparse.Namespace) -> int:
    token = await context.lifecycle.show(arguments.id)
    return print_one(as_object(token.record, token.last_use), arguments)


async def _inspect(context: _Context, arguments: argparse.Namespace) -> int:
    secret = read_token()
    found = await context.lifecycle.inspect(secret)
    if found.shape is Shape.JWT:
        return await _inspect_jwt(secret, context, arguments)
    if found.record is None:
        return _fail(_describe_unknown(secret, found.shape))
    return await _print_used(found.record, context, arguments)


def _describe_unknown(secret: str, shape: Shape) -> str:
    """Say why a string is no live token; if it has something around it, say that too."""
    if shape is Shape.BAD_CHECKSUM:
        return _BAD_CHECKSUM
    why = _UNREADABLE if shape is Shape.UNREADABLE else _UNKNOWN
    slip = _describe_slip(secret)
    return f"{why}. {slip}" if slip else why


async def _inspect_jwt(secret: str, context: _Context, arguments: argparse.Namespace) -> int:
    report = await jwt_report.judge_jwt(secret, context.settings, context.store)
    if report.record is not None:
        return await _print_used(report.record, context, arguments)
    if report.foreign is not None:
        claimed = find_claimed(secret, context.settings)
        print_one(jwt_report.as_object(report.foreign, claimed), arguments)
        if claimed is not None and not arguments.json:
            print(f"sidecar: {claimed}", file=sys.stderr)
        return _judge_account(report.foreign.account, context)
    return _fail(report.problem)


async def _print_used(record: TokenRecord, context: _Context, arguments: argparse.Namespace) -> int:
    token = await context.lifecycle.show(record.id, record.account)
    print_one(as_object(token.record, token.last_use), arguments)
    return _judge_account(record.account, context)


def _judge_account(account: str, context: _Context) -> int:
    """Say why a valid token is still refused, if it is; return the exit status."""
    declared = context.settings.known_accounts.get(account)
    if declared is not None and not declared.disabled:
        return 0
    if declared is not None:
        return _fail(f"it is refused: account {account} is disabled")
    return _fail(f"it is refused: {describe_undeclared(account, context.settings.known_accounts)}")


async def _revoke(context: _Context, arguments: argparse.Namespace) -> int:
    if not _says_what_to_revoke(arguments):
        raise UsageError(
            "revoke takes the ID of one token, or --account A --all, or --issuer ISS --jti JTI"
        )
    if arguments.issuer is not None:
        return await _deny(context, arguments)
    if arguments.all:
        with ExitStack() as shown:
            revoked = await context.lifecycle.revoke_all(
                arguments.account,
                lambda many: shown.enter_context(progress("revoke", many)),
            )
    else:
        revoked = [await context.lifecycle.revoke(arguments.id, arguments.account)]
    for record in revoked:
        context.audit.token_revoked(record, None, Actor.CLI)
    print_revoked(revoked, arguments)
    if revoked:
        return 0
    print(f"sidecar: {_describe_nothing(arguments.account, context)}", file=sys.stderr)
    return 0 if arguments.account in context.settings.known_accounts else 1


def _says_what_to_revoke(arguments: argparse.Namespace) -> bool:
    """Tell whether exactly one of the three ways to revoke is chosen, and complete."""
    is_foreign = arguments.issuer is not None or arguments.jti is not None
    if arguments.all + (arguments.id is not None) + is_foreign != 1:
        return False
    if is_foreign:
        named = (arguments.issuer, arguments.jti)
        return None not in named and arguments.account is None
    return not arguments.all or arguments.account is not None


async def _deny(context: _Context, arguments: argparse.Namespace) -> int:
    record = await foreign_jwt.deny(
        context.store, context.settings, arguments.issuer, arguments.jti, arguments.days
    )
    context.audit.token_created(record, None, Actor.CLI)
    if arguments.json:
        print_json([as_object(record)])
        return 0
    end = optional_rfc3339(record.expires_at)
    print(f"denied {'until ' + end if end else 'for ever'}; revoking {record.id} lifts it")
    return 0


async def _rotate(context: _Context, arguments: argparse.Namespace) -> int:
    successor, token = await context.lifecycle.rotate(arguments.id, arguments.overlap)
    context.audit.token_rotated(successor, arguments.id, None, Actor.CLI)
    return print_made(successor, token, arguments)


def _fail(reason: str) -> int:
    print(paint_problem(f"sidecar: {reason}", sys.stderr), file=sys.stderr)
    return 1
