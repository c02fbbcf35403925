"""``sidecar account``: hash a password for an account, and list the declared accounts."""

from __future__ import annotations

import argparse

from sidecar.cli.options import Subparsers, add_config, add_json, load_settings
from sidecar.cli.standard_input import read_password
from sidecar.cli.table import print_list
from sidecar.core.errors import UsageError

_EXAMPLES = {
    "hash-password": (
        "sidecar account hash-password",
        'printf %s "$PASSWORD" | sidecar account hash-password',
    ),
    "list": (
        "sidecar account list",
        "sidecar account list --json --config /etc/sidecar/sidecar.yaml",
    ),
}


def add_to(commands: Subparsers) -> None:
    """Add the group."""
    group = commands.add_parser(
        "account",
        help="hash a password, list accounts",
        description="Hash a password for an account of the configuration, and list the accounts.",
    )
    actions = group.add_commands("ACTION")
    _add_hash_password(actions)
    _add_list(actions)


def _add_hash_password(actions: Subparsers) -> None:
    parser = actions.add_parser(
        "hash-password",
        help="print the value of an account's password_hash",
        description="Print the Argon2id hash of a password: the value of password_hash. At a "
        "terminal, the password is asked for twice; otherwise it is the one line of standard "
        "input.",
        examples=_EXAMPLES["hash-password"],
    )
    add_config(parser)
    parser.set_defaults(run=_hash_password)


def _add_list(actions: Subparsers) -> None:
    about = "list the accounts of the configuration"
    parser = actions.add_parser(
        "list",
        help=about,
        description=f"{about.capitalize()}.",
        examples=_EXAMPLES["list"],
    )
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=_list)


def _hash_password(arguments: argparse.Namespace) -> int:
    password = read_password(asks_twice=True)
    from sidecar.core.passwords import hash_password

    try:
        print(hash_password(password))
    except ValueError as error:
        raise UsageError(f"{error}; nothing was hashed") from None
    return 0


def _list(arguments: argparse.Namespace) -> int:
    accounts = [
        {
            "account": name,
            "password": account.password_hash is not None,
            "paths": [pattern.text for pattern in account.paths.patterns],
            "groups": sorted(account.groups),
            "max_token_days": account.max_token_days,
            "max_tokens": account.max_tokens,
            "disabled": account.disabled,
        }
        for name, account in load_settings(arguments).known_accounts.items()
    ]
    print_list(accounts, arguments, "the configuration declares no account")
    return 0
