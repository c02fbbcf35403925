"""Loads a file into ``Settings``, reporting every mistake in one run, never as a traceback."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from sidecar.config.account_files import AccountFiles, Placed, find_files
from sidecar.config.checks import check_agreement
from sidecar.config.document import Unreadable, YamlNode, compose
from sidecar.config.error_messages import describe
from sidecar.config.files import check_files, files_named_in
from sidecar.config.settings import Settings
from sidecar.config.substitution import files_named_in as files_substituted_in
from sidecar.config.substitution import substitute
from sidecar.config.warnings import ConfigurationWarning, warnings_of
from sidecar.core.errors import ConfigurationError
from sidecar.core.policy import Account

MAX_FILE_BYTES = 1024 * 1024

_ACCOUNT_FILES: Final = AccountFiles()
"""What this process has read; a worker is forked with what its supervisor has."""


def load(
    path: Path,
    environ: Mapping[str, str],
    note: Callable[[Path], None] | None = None,
    account_files: AccountFiles = _ACCOUNT_FILES,
    warn: Callable[[ConfigurationWarning], None] | None = None,
) -> Settings:
    """Return the settings in the file at ``path``; ``${...}`` is taken from ``environ`` and files.

    Relative paths in the file start at its own directory. Raises ``ConfigurationError`` with every
    diagnostic, sorted by position, each a line ``file:line:column: what is wrong; what to do``.
    None holds a value that may be secret. Reads files and changes nothing.

    ``note`` is called with each file before it is read, even if it does not exist. What
    ``account_files`` has read before is not read again unless it has changed. ``warn`` is called
    with each warning about a valid file, in their order; finding them takes a while.
    """
    note = note or _note_nothing

    def replace(text: str) -> str:
        for file in files_substituted_in(text, path.parent):
            note(file)
        return substitute(text, environ, path.parent)

    try:
        note(path)
        text = _read(path)
        root, problems = compose(text, replace)
    except Unreadable as error:
        raise ConfigurationError([_line_of(Placed(path, error.problem))]) from None
    for file in files_named_in(root, path.parent):
        note(file)
    settings: Settings | None = None
    try:
        context = {"directory": path.parent, "data_directory": _data_directory_of(path)}
        settings = Settings.model_validate(root.plain(), context=context)
    except ValidationError as error:
        problems += describe(error, root)
    accounts, of_files = _read_accounts(path, root, replace, note, account_files)
    problems += [*check_agreement(root, accounts), *check_files(root, path.parent)]
    if settings is None or problems or of_files:
        placed = [Placed(path, problem) for problem in sorted(set(problems))]
        raise ConfigurationError([_line_of(one) for one in [*placed, *of_files]])
    settings.add_accounts(accounts)
    if warn is not None:
        for warning in warnings_of(root, path, text, accounts):
            warn(warning)
    return settings


def _read_accounts(
    path: Path,
    root: YamlNode,
    replace: Callable[[str], str],
    note: Callable[[Path], None],
    files: AccountFiles,
) -> tuple[Mapping[str, Account], list[Placed]]:
    """Return the accounts of the files that ``accounts_from`` names, and what is wrong in them."""
    node, declared = root.at("accounts_from"), root.at("accounts")
    patterns = [
        text for item in (node.items() if node is not None else []) if (text := item.text())
    ]
    paths = [*find_files(patterns, path.parent, note)]
    if not paths:
        return MappingProxyType({}), []
    places = {} if declared is None else declared.keys
    own = {name: (path, position) for name, position in places.items()}
    return files.read(paths, replace, own)


def _data_directory_of(path: Path) -> Path:
    """Return where an embedded store keeps its data: beside the file, behind symbolic links.

    So a file has one store, whatever it is called by and wherever a command is run. What is not a
    regular file, as a pipe, has no place, and counts as one in the current directory.
    """
    return (path.resolve().parent if path.is_file() else Path.cwd()) / "data"


def _read(path: Path) -> str:
    """Return the file's text; raises ``Unreadable``."""
    try:
        if path.is_dir():
            raise Unreadable((1, 1), "this is a directory; name the file in it")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Unreadable((1, 1), _why_unreadable(error)) from None
    if len(content) > MAX_FILE_BYTES:
        raise Unreadable((1, 1), "the file is larger than 1 MiB; name a configuration file")
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise Unreadable(
                (1, 1), "this is not UTF-8 but UTF-16; save the file as UTF-8"
            ) from None
        before = content[: error.start].decode()
        position = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise Unreadable(position, "this is not UTF-8; save the file as UTF-8") from None


def _why_unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file; create it, or name another with --config"
    reason = error.strerror if isinstance(error, OSError) else "not a path"
    advice = "correct the path, or name another with --config"
    if isinstance(error, PermissionError):
        advice = f"let user {os.geteuid()} read it, and enter the directories above it"
    return f"the file can't be read ({reason}); {advice}"


def _line_of(placed: Placed) -> str:
    problem = placed.problem
    return f"{placed.path}:{problem.line}:{problem.column}: {_in_one_line(problem.text)}"


def _note_nothing(file: Path) -> None:
    """Ignore the file."""


def _in_one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
