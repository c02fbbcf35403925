"""Accounts in files of their own (``accounts_from``): YAML like ``accounts``, or htpasswd's form.

A file whose name ends in ``.yaml`` or ``.yml`` maps names to accounts, at its top or below a key
``accounts``. Any other file has a line ``name:hash`` for each account. What has been read is kept
while the file stays as it is, so that a change to one of many files costs no more than that file.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import ValidationError

from sidecar.config import values
from sidecar.config.diagnostics import Diagnostic, Rejected
from sidecar.config.document import Position, Unreadable, YamlNode, compose
from sidecar.config.error_messages import describe
from sidecar.config.settings import AccountSettings, Section
from sidecar.core.account_names import ACCOUNT_NAME_ADVICE, is_account_name
from sidecar.core.passwords import UnusableHash, check_hash
from sidecar.core.policy import Account

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MOST_PROBLEMS: Final = 1000
"""So many problems are listed for each file."""

_DEFAULT: Final = AccountSettings().named("")
_YAML_SUFFIXES: Final = (".yaml", ".yml")
_has_content: Final = re.compile(r"^[ \t]*[^\s#]", re.MULTILINE).search


class AccountFile(NamedTuple):
    """What one file holds. ``positions`` are those of the accounts' names."""

    accounts: Mapping[str, Account]
    positions: Mapping[str, Position]
    problems: Sequence[Diagnostic]


class Placed(NamedTuple):
    """A problem and its file."""

    path: Path
    problem: Diagnostic


class _AccountsFile(Section):
    accounts: values.AccountsByName[AccountSettings]


class AccountFiles:
    """Reads the files of accounts, and keeps what it has read."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, ...], AccountFile]] = {}

    def __repr__(self) -> str:
        return f"<AccountFiles {len(self._kept)} kept>"

    def read(
        self,
        paths: Sequence[Path],
        substitute: Callable[[str], str],
        declared: Mapping[str, tuple[Path, Position]],
    ) -> tuple[Mapping[str, Account], list[Placed]]:
        """Return the accounts of these files, by name, and all problems.

        ``substitute`` replaces ``${...}``. ``declared`` are the accounts of the configuration file
        and their places. A name that stands twice is a problem, told with both places.
        """
        kept = {path: self._kept[path] for path in paths if path in self._kept}
        self._kept = kept
        accounts: dict[str, Account] = {}
        problems: list[Placed] = []
        owners: dict[str, AccountFile] = {}
        for path in paths:
            file = self._read_file(path, substitute)
            problems += [Placed(path, problem) for problem in file.problems[:MOST_PROBLEMS]]
            taken = file.accounts.keys() & (accounts.keys() | declared.keys())
            accounts.update(file.accounts)
            owners[str(path)] = file
            for name in sorted(taken, key=file.positions.__getitem__)[:MOST_PROBLEMS]:
                where = declared.get(name) or _place_of(name, owners, path)
                problems.append(Placed(path, _twice(name, file.positions[name], where)))
        return MappingProxyType(accounts), problems

    def _read_file(self, path: Path, substitute: Callable[[str], str]) -> AccountFile:
        try:
            stamp, text = _read_text(path)
            kept = self._kept.get(path)
            if kept is not None and kept[0] == stamp:
                return kept[1]
            is_yaml = path.suffix in _YAML_SUFFIXES
            file = _parse_yaml(text, path, substitute) if is_yaml else _parse_htpasswd(text)
        except Unreadable as error:
            return AccountFile({}, {}, [error.problem])
        if "${" not in text and not file.problems:
            self._kept[path] = (stamp, file)
        return file


def find_files(
    patterns: Sequence[str], directory: Path, note: Callable[[Path], None]
) -> Iterator[Path]:
    """Yield the files that the patterns name, each once, in order of the patterns and names.

    A relative pattern starts at ``directory``. A name without wildcards is yielded even if there
    is no such file. ``note`` is called with each file, and with each directory that is searched.
    """
    seen: set[Path] = set()
    for pattern in patterns:
        if glob.has_magic(pattern):
            whole = str(directory / pattern)
            note(Path(os.path.dirname(whole)))
            paths = [Path(found) for found in sorted(glob.glob(whole))]
        else:
            paths = [directory / pattern]
        for path in paths:
            note(path)
            if path not in seen:
                seen.add(path)
                yield path


def _place_of(name: str, owners: Mapping[str, AccountFile], but: Path) -> tuple[Path, Position]:
    return next(
        (Path(path), file.positions[name])
        for path, file in owners.items()
        if name in file.accounts and path != str(but)
    )


def _twice(name: str, position: Position, first: tuple[Path, Position]) -> Diagnostic:
    path, (line, column) = first
    text = (
        f"accounts.{name}: this account is declared at {path}:{line}:{column} too; keep one of the "
        "two"
    )
    return Diagnostic(*position, text)


def _read_text(path: Path) -> tuple[tuple[int, ...], str]:
    """Return the file's stamp and text. Raises ``Unreadable``."""
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        what = f"the file can't be read ({reason}); create it, or let the sidecar's user read it"
        raise Unreadable((1, 1), what) from None
    if len(content) > MAX_FILE_BYTES:
        raise Unreadable((1, 1), "the file is larger than 64 MiB; split it")
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable((line, 1), "this is not UTF-8; save the file as UTF-8") from None
    stamp = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    return stamp, text


def _parse_yaml(text: str, path: Path, substitute: Callable[[str], str]) -> AccountFile:
    if not _has_content(text):
        return AccountFile({}, {}, [])
    top, problems = compose(text, substitute)
    root = top if _is_wrapped(top) else YamlNode({"accounts": top}, (1, 1), {"accounts": (1, 1)})
    listed = root.at("accounts")
    positions = {} if listed is None else listed.keys
    try:
        found = _AccountsFile.model_validate(root.plain(), context={"directory": path.parent})
    except ValidationError as error:
        return AccountFile({}, positions, sorted({*problems, *describe(error, root)}))
    accounts = {name: account.named(name) for name, account in found.accounts.items()}
    return AccountFile(accounts, positions, problems)


def _is_wrapped(root: YamlNode) -> bool:
    """Tell whether a document's only key is ``accounts``, and not the name of an account."""
    listed = root.at("accounts")
    if listed is None or len(root.entries()) > 1 or not isinstance(listed.value, dict):
        return False
    return all(isinstance(node.value, dict) or node.value is None for node in listed.value.values())


def _parse_htpasswd(text: str) -> AccountFile:
    accounts: dict[str, Account] = {}
    positions: dict[str, Position] = {}
    problems: list[Diagnostic] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, rest = line.rstrip().partition(":")
        password_hash = rest.partition(":")[0]
        try:
            if not colon:
                raise Rejected("is not an account", "write name:hash, as htpasswd does")
            _check_line(name, password_hash)
            if name in accounts:
                first = positions[name][0]
                raise Rejected(f"has an account that is in line {first} too", "keep one of the two")
        except Rejected as error:
            problems.append(Diagnostic(number, 1, error.sentence("this line")))
            continue
        accounts[name] = replace(_DEFAULT, name=name, password_hash=password_hash)
        positions[name] = (number, 1)
    return AccountFile(accounts, positions, problems)


def _check_line(name: str, password_hash: str) -> None:
    if not is_account_name(name):
        raise Rejected("begins with what is not an account name", ACCOUNT_NAME_ADVICE)
    try:
        check_hash(password_hash)
    except UnusableHash as error:
        raise Rejected(f"has a hash that {error.why}", error.advice) from None
