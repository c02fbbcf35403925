"""From a file to ``Settings``: every problem is found in one run, and none is a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from sidecar.config.checks import check_agreement
from sidecar.config.diagnostics import Diagnostic
from sidecar.config.document import Unreadable, compose
from sidecar.config.error_messages import describe
from sidecar.config.files import check_files, files_named_in
from sidecar.config.settings import Settings
from sidecar.config.substitution import files_named_in as files_substituted_in
from sidecar.config.substitution import substitute
from sidecar.core.errors import ConfigurationError

MAX_FILE_BYTES = 1024 * 1024


def load(
    path: Path, environ: Mapping[str, str], note: Callable[[Path], None] | None = None
) -> Settings:
    """Return the settings in the file at ``path``, with ``${...}`` read from ``environ`` and files.

    Relative paths in it start at its own directory. Raises ``ConfigurationError`` with all its
    problems, sorted by place, each a line of ``file:line:column: what is wrong; what to do``; none
    holds a value that may be secret. Reads files and changes nothing, so it can be called again.

    ``note`` is told of each file before it is read, also of one that is not there.
    """
    note = note or _note_nothing

    def replace(text: str) -> str:
        for file in files_substituted_in(text, path.parent):
            note(file)
        return substitute(text, environ, path.parent)

    try:
        note(path)
        root, problems = compose(_read(path), replace)
    except Unreadable as error:
        raise _failure(path, [error.problem]) from None
    for file in files_named_in(root, path.parent):
        note(file)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(root.plain(), context={"directory": path.parent})
    except ValidationError as error:
        problems += describe(error, root)
    problems += [*check_agreement(root), *check_files(root, path.parent)]
    if settings is None or problems:
        raise _failure(path, problems)
    return settings


def _read(path: Path) -> str:
    """Return the file's text; raises ``Unreadable``."""
    try:
        if path.is_dir():
            raise Unreadable((1, 1), "this is a directory; name the file in it")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        advice = "name another with --config, or let the sidecar's user read it"
        raise Unreadable((1, 1), f"the file can't be read ({reason}); {advice}") from None
    if len(content) > MAX_FILE_BYTES:
        raise Unreadable((1, 1), "the file has more than 1 MiB; this can't be a configuration")
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise Unreadable(place, "this is no UTF-8; save the file as UTF-8") from None


def _failure(path: Path, problems: list[Diagnostic]) -> ConfigurationError:
    lines = [f"{path}:{p.line}:{p.column}: {_in_one_line(p.text)}" for p in sorted(set(problems))]
    return ConfigurationError(lines)


def _note_nothing(file: Path) -> None:
    """Nobody wants to know."""


def _in_one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
