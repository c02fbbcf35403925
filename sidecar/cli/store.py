"""``sidecar store``: exports all tokens to a file and imports them. Digests only, never a token."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sidecar.cli.auditing import open_audit_log
from sidecar.cli.foreign_jwt import DENIALS_ACCOUNT
from sidecar.cli.import_report import ImportReport
from sidecar.cli.options import Subparsers, add_config, add_json, first_sentence, load_settings
from sidecar.cli.progress import progress
from sidecar.cli.reach import reached_archive
from sidecar.core.counts import count_of
from sidecar.core.errors import StoreUnavailable, UsageError
from sidecar.observability.audit import Actor

if TYPE_CHECKING:
    from sidecar.cli.token_file import TokenFile
    from sidecar.config.settings import Settings
    from sidecar.core.model import TokenRecord
    from sidecar.store.port import Exported, Outcome, TokenArchive

_ABOUT_EXPORT = (
    "Write every live token to standard output, one JSON object per line: digests, never a token. "
    "A token that is created or revoked meanwhile may or may not be included."
)
_ABOUT_IMPORT = (
    "Import what `sidecar store export` wrote. The whole file is checked first. Expired tokens are "
    "skipped, and tokens that exist stay as they are, so importing again changes nothing. Exit "
    "status 1 if a line could not be imported."
)
_REFUSALS = {
    "different": "a token with this digest exists and differs, as after a rotation; it stays as it "
    "is. To import this one instead, revoke {id} of {account} first",
    "id taken": "its id, {id}, belongs to another token of {account}; create a new token instead",
}
_EXAMPLES = {
    "export": (
        "sidecar store export >tokens.jsonl",
        "sidecar store export | gzip >tokens.jsonl.gz",
    ),
    "import": (
        "sidecar store import tokens.jsonl",
        "gunzip -c tokens.jsonl.gz | sidecar store import",
        "sidecar store import --skip-invalid --json damaged.jsonl",
    ),
}

StoreAction = Callable[["Settings", "TokenArchive", argparse.Namespace], Awaitable[int]]


def add_to(commands: Subparsers) -> None:
    """Add the group."""
    group = commands.add_parser(
        "store",
        help="export and import all tokens",
        description="Export all tokens to a file, as digests, and import such a file.",
    )
    actions = group.add_commands("ACTION")
    _add(actions, "export", _export, _ABOUT_EXPORT)
    parser = _add(actions, "import", _import, _ABOUT_IMPORT)
    add_json(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="what `sidecar store export` wrote (default: standard input)",
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="import the valid lines of a file that has invalid ones, or was cut off",
    )


def _add(
    actions: Subparsers, name: str, action: StoreAction, about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=first_sentence(about), description=about, examples=_EXAMPLES[name]
    )
    parser.set_defaults(run=lambda arguments: asyncio.run(_with_archive(action, arguments)))
    add_config(parser)
    return parser


async def _with_archive(action: StoreAction, arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    async with reached_archive(settings) as archive:
        return await action(settings, archive, arguments)


async def _export(settings: Settings, archive: TokenArchive, _: argparse.Namespace) -> int:
    from sidecar.store.token_lines import write_first, write_last, write_token

    tokens = unreadable = 0
    out = sys.stdout.buffer
    out.write(write_first(time.time()))
    with progress("export", None, is_wanted=not out.isatty()) as advance:
        async for batch in archive.export():
            out.write(b"".join(map(write_token, batch.tokens)))
            tokens += len(batch.tokens)
            unreadable += batch.unreadable
            advance(len(batch.tokens))
    out.write(write_last(tokens))
    out.flush()
    open_audit_log(settings).tokens_exported(tokens, Actor.CLI)
    print(f"exported {count_of(tokens, 'token')}", file=sys.stderr)
    if unreadable:
        print(
            f"skipped {count_of(unreadable, 'key')} that can't be read; they authorize nothing",
            file=sys.stderr,
        )
    return 0


async def _import(settings: Settings, archive: TokenArchive, arguments: argparse.Namespace) -> int:
    from sidecar.cli.token_file import TokenFile

    with _opened(arguments.file) as stream, TokenFile(stream) as file:
        with progress("check", _size_of(stream), unit="B") as advance:
            report = file.check(advance)
        if report.invalid and not arguments.skip_invalid:
            report.print(arguments)
            print(
                "sidecar: nothing was imported. Export the tokens again, or import the valid lines "
                "of this file with --skip-invalid",
                file=sys.stderr,
            )
            return 1
        try:
            await _restore(file, archive, settings, report)
        finally:
            open_audit_log(settings).tokens_restored(report.counts(), Actor.CLI)
    report.print(arguments)
    return 1 if report.refused or report.invalid else 0


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is not None:
        with path.open("rb") as stream:
            yield stream
    elif sys.stdin.isatty():
        raise UsageError("name the file, or pipe it in: sidecar store import FILE")
    else:
        yield sys.stdin.buffer


def _size_of(stream: BinaryIO) -> int | None:
    """Return the bytes of a file; ``None``: it is none, or empty."""
    try:
        return os.fstat(stream.fileno()).st_size or None
    except OSError:
        return None


async def _restore(
    file: TokenFile, archive: TokenArchive, settings: Settings, report: ImportReport
) -> None:
    from sidecar.store.port import MOST_RESTORED

    known = {*settings.known_accounts, DENIALS_ACCOUNT}
    with progress("import", file.token_count) as advance:
        for batch in _batches(file.tokens(), MOST_RESTORED):
            try:
                outcomes = await archive.restore([token for _, token in batch])
            except StoreUnavailable as fault:
                raise StoreUnavailable(
                    f"{fault}; the lines before line {batch[0][0]} are imported. Run the command "
                    "again: nothing is imported twice"
                ) from None
            for (line, token), outcome in zip(batch, outcomes, strict=True):
                _note(report, line, token.record, outcome)
                if token.record.account not in known:
                    report.undeclared.add(token.record.account)
            advance(len(batch))


def _note(report: ImportReport, line: int, record: TokenRecord, outcome: Outcome) -> None:
    if outcome.value in _REFUSALS:
        text = _REFUSALS[outcome.value].format(id=record.id, account=record.account)
        report.refuse(line, text)
        return
    report.created += outcome.value == "created"
    report.present += outcome.value == "present"
    report.expired += outcome.value == "expired"


def _batches(
    tokens: Iterable[tuple[int, Exported]], size: int
) -> Iterator[list[tuple[int, Exported]]]:
    source = iter(tokens)
    while batch := list(islice(source, size)):
        yield batch
