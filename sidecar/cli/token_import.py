"""``sidecar token import --file``: many tokens of another system, checked whole first."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sidecar.cli.auditing import open_audit_log
from sidecar.cli.import_report import ImportReport
from sidecar.cli.options import load_settings
from sidecar.cli.progress import progress
from sidecar.cli.reach import reached_archive, reached_store
from sidecar.cli.token_csv import read_rows
from sidecar.core.errors import UsageError
from sidecar.observability.audit import Actor

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.tokens.staging import Staging


async def import_file(arguments: argparse.Namespace) -> int:
    """Import the tokens of a CSV file; return the exit status."""
    from sidecar.runtime.build import build_accounts
    from sidecar.store.port import Outcome
    from sidecar.tokens.bulk_import import BulkImport
    from sidecar.tokens.staging import Staging, State

    settings, report = load_settings(arguments), ImportReport()
    accounts = build_accounts(settings)
    with Staging() as staging:
        _stage(arguments.file, settings, staging, report)
        async with reached_store(settings) as store, reached_archive(settings) as archive:
            with progress("compare with the store", staging.count(State.UNKNOWN)) as advance:
                bulk = BulkImport(archive, store, staging, report.refuse, advance)
                await bulk.compare(accounts, time.time)
            is_faulty = report.invalid or report.refused
            if not is_faulty or arguments.skip_invalid:
                try:
                    with progress("import", staging.count(State.NEW)) as advance:
                        bulk.advance = advance
                        await bulk.write(time.time, os.urandom)
                finally:
                    report.created = bulk.outcomes[Outcome.CREATED]
                    open_audit_log(settings).tokens_restored(report.counts(), Actor.CLI)
        report.present = bulk.outcomes[Outcome.PRESENT]
        report.expired = bulk.outcomes[Outcome.EXPIRED]
    report.print(arguments)
    if is_faulty and not arguments.skip_invalid:
        print(
            "sidecar: nothing was imported. Mend the file, or import its valid lines with "
            "--skip-invalid",
            file=sys.stderr,
        )
    return 1 if report.invalid or report.refused else 0


def _stage(path: Path, settings: Settings, staging: Staging, report: ImportReport) -> None:
    """Check every row by itself and beside the others."""
    from sidecar.runtime.build import build_accounts, build_claimants
    from sidecar.tokens.import_rows import RowReader

    accounts, claimants = build_accounts(settings), build_claimants(settings)
    reader = RowReader(accounts, settings.tokens.prefix, claimants, time.time)
    with _opened(path) as (stream, size), progress("check", size, unit="B") as advance:
        seen = 0
        for line, cells in read_rows(stream, report.invalidate):
            try:
                row = reader.read(line, cells)
            except UsageError as error:
                report.invalidate(line, str(error))
            else:
                problem = staging.add(row)
                if problem:
                    report.invalidate(line, problem)
            seen = _advance_to(stream, seen, advance)
    report.jwts = reader.jwts


def _advance_to(stream: BinaryIO, seen: int, advance: Callable[[int], None]) -> int:
    """Tell how far the file has been read, if that can be known; return it."""
    try:
        now = stream.tell()
    except OSError:
        return seen
    if now > seen:
        advance(now - seen)
    return now


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open the file, ``-`` for standard input; its size in bytes is ``None`` if unknown."""
    if str(path) == "-":
        yield sys.stdin.buffer, None
        return
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    with stream:
        yield stream, os.fstat(stream.fileno()).st_size or None
