"""``sidecar throttle``: lists and clears bans after too many failures."""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sidecar.cli.auditing import open_audit_log
from sidecar.cli.options import Subparsers, add_config, add_json, first_sentence, load_settings
from sidecar.cli.reach import reached_store, url_of
from sidecar.cli.table import print_list
from sidecar.core.errors import UsageError
from sidecar.core.subjects import key_of, network_of, split_subject, subject_of
from sidecar.core.times import optional_rfc3339
from sidecar.observability.audit import Actor

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.store.port import FailureCounters

ThrottleAction = Callable[["Settings", "FailureCounters", argparse.Namespace], Awaitable[int]]
Banned = dict[str, object]

_EXAMPLES = {
    "list": ("sidecar throttle list", "sidecar throttle list --json"),
    "clear": (
        "sidecar throttle clear --client 203.0.113.7",
        "sidecar throttle clear --account acme",
        "sidecar throttle clear --all",
    ),
}


def add_to(commands: Subparsers) -> None:
    """Add the group."""
    group = commands.add_parser(
        "throttle",
        help="list and clear bans after too many failures",
        description="List and clear the bans of clients and accounts after too many failures.",
    )
    actions = group.add_commands("ACTION")
    _add(actions, "list", _list, "List the banned clients and accounts, and until when.")
    about = "End bans, and reset the failure counts behind them; takes effect within a second."
    parser = _add(actions, "clear", _clear, about)
    parser.add_argument("--client", metavar="C", help="for this address, or network as listed")
    parser.add_argument("--account", metavar="A", help="for passwords of this account")
    parser.add_argument("--all", action="store_true", help="for all clients and accounts")


def _add(
    actions: Subparsers, name: str, action: ThrottleAction, about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=first_sentence(about), description=about, examples=_EXAMPLES[name]
    )
    parser.set_defaults(run=lambda arguments: asyncio.run(_with_counters(action, arguments)))
    add_config(parser)
    add_json(parser)
    return parser


async def _with_counters(action: ThrottleAction, arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    async with _reached_counters(settings) as counters:
        return await action(settings, counters, arguments)


@asynccontextmanager
async def _reached_counters(settings: Settings) -> AsyncIterator[FailureCounters]:
    """Open the counters for as long as the store is open, as it may start an embedded Redis."""
    from sidecar.runtime.parts import connect_counters

    async with reached_store(settings):
        counters = connect_counters(url_of(settings), prefix=settings.store.prefix)
        try:
            yield counters
        finally:
            await counters.close()


async def _list(
    settings: Settings, counters: FailureCounters, arguments: argparse.Namespace
) -> int:
    bans = await counters.bans()
    names = _names_by_key(settings.known_accounts)
    rows = [_describe(subject, names, until) for subject, until in sorted(bans.items())]
    print_list(rows, arguments, "nobody is banned")
    return 0


async def _clear(settings: Settings, counters: FailureCounters, asked: argparse.Namespace) -> int:
    subjects = await _choose(counters, asked)
    cleared = sorted(await counters.clear(subjects))
    names = _names_by_key(settings.known_accounts)
    audit = open_audit_log(settings)
    for subject in cleared:
        network, key = split_subject(subject)
        audit.ban_cleared(network or None, names.get(key), Actor.CLI)
    rows = [_describe(subject, names) for subject in cleared]
    print_list(rows, asked, "no matching ban or failure count was found")
    return 0


async def _choose(counters: FailureCounters, asked: argparse.Namespace) -> list[str] | None:
    """Return the subjects that match the given client or account; ``None``: all."""
    if asked.all == bool(asked.client or asked.account):
        raise UsageError("clear takes --client C, --account A or both, or else --all")
    if asked.all:
        return None
    network = _network(asked.client) if asked.client else ""
    key = key_of(asked.account) if asked.account else ""
    chosen = {network, subject_of("", asked.account), subject_of(network, asked.account)} - {""}
    for subject in await counters.bans():
        its_network, its_key = split_subject(subject)
        if (network and its_network == network) or (key and its_key == key):
            chosen.add(subject)
    return sorted(chosen)


def _network(client: str) -> str:
    network = network_of(client.partition("/")[0])
    if not network:
        raise UsageError("--client takes an IP address, or a network as `throttle list` shows it")
    return network


def _names_by_key(accounts: Collection[str]) -> dict[str, str]:
    return {key_of(name): name for name in accounts}


def _describe(subject: str, names: dict[str, str], until: float | None = None) -> Banned:
    """Return a ban as output; an undeclared account is shown by its key alone."""
    network, key = split_subject(subject)
    banned: Banned = {
        "client": network or None,
        "account": names.get(key),
        "undeclared_account": key if key and key not in names else None,
    }
    if until is not None:
        banned["banned_until"] = optional_rfc3339(until)
        banned["seconds_left"] = max(0, math.ceil(until - time.time()))
    return banned
