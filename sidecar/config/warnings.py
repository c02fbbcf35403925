"""What is valid in the file and probably not meant: each warning with its position and its line.

A warning is left out where a comment on its line says that it is meant: ``# deliberate``, perhaps
with the reason. The rules are those of ``route_warnings``, ``exposure_warnings``,
``certificate_warnings``, ``password_warnings`` and ``literal_warnings``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from sidecar.config.certificate_warnings import warn_of_certificates
from sidecar.config.diagnostics import Diagnostic
from sidecar.config.document import YamlNode
from sidecar.config.exposure_warnings import warn_of_exposure
from sidecar.config.literal_warnings import warn_of_literals
from sidecar.config.password_warnings import warn_of_passwords
from sidecar.config.route_warnings import warn_of_routes
from sidecar.core.policy import Account

_IS_DELIBERATE = re.compile(r"(?:^|\s)#\s*deliberate\b")
_WORD = re.compile(r"'[^']*'|\"[^\"]*\"|[^\s,\[\]'\"]+")
_KEYS = re.compile(r"[\s-]*\{?(?:[\w.@-]+:[ ]+)?")
_MOST_SHOWN = 80
_NO_ACCOUNTS: Mapping[str, Account] = MappingProxyType({})


@dataclass(frozen=True, slots=True, order=True)
class ConfigurationWarning:
    """One sentence about one place of the file, at a line and column that count from 1."""

    file: Path
    line: int
    column: int
    text: str
    excerpt: str
    """The line of the file, as far as it certainly holds no secret, and a caret below."""

    @property
    def sentence(self) -> str:
        """The warning in one line: ``file:line:column: what is odd; what to do``."""
        return f"{self.file}:{self.line}:{self.column}: {self.text}"

    @property
    def labelled(self) -> str:
        """The sentence, marked as a warning where problems could stand beside it."""
        return f"{self.file}:{self.line}:{self.column}: warning: {self.text}"


def warnings_of(
    root: YamlNode, path: Path, text: str, of_files: Mapping[str, Account] = _NO_ACCOUNTS
) -> list[ConfigurationWarning]:
    """Return the warnings about a valid file, sorted by position.

    ``root`` is the tree of its ``text``, ``of_files`` are the accounts of
    ``accounts_from``. Reads certificates, and the permissions of files.
    """
    lines = text.splitlines()
    found = sorted({*_all_warnings(root, path), *warn_of_passwords(root, of_files)})
    return [
        ConfigurationWarning(
            path, at.line, at.column, at.text, excerpt(_line(lines, at.line), at.column)
        )
        for at in found
        if _IS_DELIBERATE.search(_line(lines, at.line)) is None
    ]


def _all_warnings(root: YamlNode, path: Path) -> Iterator[Diagnostic]:
    yield from warn_of_routes(root)
    yield from warn_of_literals(root)
    yield from warn_of_exposure(root, path)
    yield from warn_of_certificates(root, path.parent, datetime.now(UTC))


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1] if number <= len(lines) else ""


def excerpt(line: str, column: int) -> str:
    """Return the key or value at ``column`` (from 1) and a caret below it, in two lines.

    Anything else on the line may be a secret, and is left out, except the keys before it.
    """
    before, after = line[: column - 1], line[column - 1 :]
    if len(before) > _MOST_SHOWN or _KEYS.fullmatch(before) is None:
        before = "… "
    found = _WORD.match(after)
    word = found[0] if found is not None and "${" not in found[0] else ""
    word = word if "{" in word else word.rstrip("}")
    rest = " …" if after.removeprefix(word).strip(" ,]}") else ""
    return f"    {before}{word[:_MOST_SHOWN]}{rest}\n    {' ' * len(before)}^"
