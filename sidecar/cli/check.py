"""``sidecar check``: checks the configuration, with ``--connect`` also what it connects to."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.cli.color import Style, paint, paint_problem
from sidecar.cli.options import (
    Subparsers,
    add_config,
    add_json,
    find_config,
    load_settings,
    print_json,
)
from sidecar.cli.progress import activity
from sidecar.core.counts import count_of
from sidecar.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.cli.connections import ConnectionReport
    from sidecar.config.settings import Settings
    from sidecar.config.warnings import ConfigurationWarning

_MISUSED = 2

_STYLES = {"problem": Style.BAD, "warning": Style.ODD, "note": Style.STRONG}
_EXAMPLES = (
    "sidecar check",
    "sidecar check --connect --config /etc/sidecar/sidecar.yaml",
    "sidecar check --strict --json",
)


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="check the configuration; with --connect, also Redis, upstreams and issuers",
        description="Check the whole configuration and list every mistake in it, with exit status "
        "2, and warnings about what is probably not meant, with exit status 0. With --connect, "
        "also connect to Redis, the upstreams and trusted issuers, and report problems (exit "
        "status 1), warnings and notes (0), each with what to do about it.",
        examples=_EXAMPLES,
    )
    add_config(parser)
    add_json(parser)
    parser.add_argument(
        "--connect", action="store_true", help="also connect to Redis, upstreams and issuers"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="treat warnings as mistakes: exit status 2, or 1 if only --connect finds any",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    path = find_config(arguments)
    warnings: list[ConfigurationWarning] = []
    try:
        settings = load_settings(arguments, warnings.append)
        warnings += _warn_of_limits(path, settings)
    except ConfigurationError as error:
        if arguments.json:
            print_json(_as_json(path, problems=error.problems))
            return _MISUSED
        raise
    if not arguments.json:
        _print_warnings(path, settings, warnings, is_strict=arguments.strict)
    reports = []
    if arguments.connect:
        with activity("try Redis, the upstreams and the issuers"):
            reports = asyncio.run(_connect(settings))
    if arguments.json:
        print_json(_as_json(path, warnings=warnings, reports=reports))
    else:
        _print_reports(reports)
    if arguments.strict and warnings:
        return _MISUSED
    is_well = all(report.passes(is_strict=arguments.strict) for report in reports)
    return 0 if is_well else 1


def _print_warnings(
    path: Path, settings: Settings, warnings: Sequence[ConfigurationWarning], *, is_strict: bool
) -> None:
    for warning in warnings:
        text = f"{warning.labelled}\n{warning.excerpt}".rstrip()
        print(paint_problem(text, sys.stderr), file=sys.stderr)
    many = f", {count_of(len(warnings), 'warning')}" if warnings else ""
    is_well = not (is_strict and warnings)
    verdict = _verdict(is_well, "ok" if is_well else "not ok (--strict)")
    print(f"{path}: {verdict}: {_summarise(settings)}{many}", flush=True)


def _warn_of_limits(path: Path, settings: Settings) -> list[ConfigurationWarning]:
    """Warn of what this process's own limits are too small for."""
    from sidecar.config.warnings import ConfigurationWarning
    from sidecar.runtime.parts import descriptor_warning

    warning = descriptor_warning(settings)
    return [] if warning is None else [ConfigurationWarning(path, 1, 1, warning, "")]


def _summarise(settings: Settings) -> str:
    return ", ".join(
        count_of(len(part), name)
        for name, part in (
            ("route", settings.routes),
            ("upstream", settings.upstreams),
            ("account", settings.known_accounts),
        )
    )


async def _connect(settings: Settings) -> list[ConnectionReport]:
    """Check all connections at once."""
    from sidecar.cli.connections import try_listener, try_store, try_upstream
    from sidecar.cli.issuer_check import try_issuer

    tries = [try_store(settings)]
    tries += [try_upstream(name, upstream) for name, upstream in settings.upstreams.items()]
    if settings.listen.tls is not None:
        tries.append(try_listener(settings.listen.tls))
    tries += [try_issuer(issuer) for issuer in settings.jwt.trusted_issuers]
    return await asyncio.gather(*tries)


def _print_reports(reports: Sequence[ConnectionReport]) -> None:
    """Print successes on standard output, findings on the other."""
    for report in reports:
        if report.is_well:
            remark = f"; {report.remark}" if report.remark else ""
            print(f"{report.subject}: {_verdict(True, 'ok')}{remark}")
        for finding in report.findings:
            severity = paint(finding.severity.value, _STYLES[finding.severity.value], sys.stderr)
            print(f"{report.subject}: {severity}: {finding.text}", file=sys.stderr)


def _verdict(is_well: bool, word: str) -> str:
    return paint(word, Style.GOOD if is_well else Style.BAD, sys.stdout)


def _as_json(
    path: Path,
    *,
    problems: Sequence[str] = (),
    warnings: Sequence[ConfigurationWarning] = (),
    reports: Sequence[ConnectionReport] = (),
) -> dict[str, Any]:
    return {
        "file": str(path),
        "problems": [_problem_as_json(path, problem) for problem in problems],
        "warnings": [
            {"line": warning.line, "column": warning.column, "text": warning.text}
            for warning in warnings
        ],
        "connections": [
            {
                "subject": report.subject,
                "ok": report.is_well,
                "remark": report.remark,
                "findings": [
                    {"severity": finding.severity.value, "text": finding.text}
                    for finding in report.findings
                ],
            }
            for report in reports
        ],
    }


def _problem_as_json(path: Path, problem: str) -> dict[str, Any]:
    found = re.fullmatch(r"(.*?):([0-9]+):([0-9]+): (.*)", problem)
    if found is None:
        return {"line": 1, "column": 1, "text": problem}
    placed = {"line": int(found[2]), "column": int(found[3]), "text": found[4]}
    return placed if found[1] == str(path) else {"file": found[1], **placed}
