"""``sidecar check``: checks the configuration, with ``--connect`` also what it connects to."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from sidecar.cli.options import Subparsers, add_config, find_config, load_settings

if TYPE_CHECKING:
    from sidecar.config.settings import Settings


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="check the configuration; with --connect, also Redis, upstreams and issuers",
        description="Check the whole configuration and list every mistake in it, with exit status "
        "2. With --connect, also connect to Redis, the upstreams and trusted issuers, and report "
        "problems (exit status 1), warnings and notes (0), each with what to do about it.",
    )
    add_config(parser)
    parser.add_argument(
        "--connect", action="store_true", help="also connect to Redis, upstreams and issuers"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    print(f"{find_config(arguments)}: ok: {_summarise(settings)}")
    _warn(settings)
    return asyncio.run(_connect(settings)) if arguments.connect else 0


def _warn(settings: Settings) -> None:
    """Warn of what this process's own limits are too small for."""
    from sidecar.runtime.parts import descriptor_warning

    warning = descriptor_warning(settings)
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)


def _summarise(settings: Settings) -> str:
    return ", ".join(
        _count(len(part), name)
        for name, part in (
            ("route", settings.routes),
            ("upstream", settings.upstreams),
            ("account", settings.known_accounts),
        )
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


async def _connect(settings: Settings) -> int:
    """Check all connections at once; print successes on standard output, findings on the other."""
    from sidecar.cli.connections import try_listener, try_store, try_upstream
    from sidecar.cli.issuer_check import try_issuer

    tries = [try_store(settings)]
    tries += [try_upstream(name, upstream) for name, upstream in settings.upstreams.items()]
    if settings.listen.tls is not None:
        tries.append(try_listener(settings.listen.tls))
    tries += [try_issuer(issuer) for issuer in settings.jwt.trusted_issuers]
    reports = await asyncio.gather(*tries)
    for report in reports:
        if report.is_well:
            print(f"{report.subject}: ok")
        for finding in report.findings:
            print(f"{report.subject}: {finding.severity.value}: {finding.text}", file=sys.stderr)
    return 0 if all(report.is_well for report in reports) else 1
