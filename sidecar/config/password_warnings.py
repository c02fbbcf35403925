"""Accounts whose password's hash is weaker than today's advice: named, and not refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sidecar.config.diagnostics import Diagnostic
from sidecar.config.document import YamlNode
from sidecar.core.password_schemes import read_hash
from sidecar.core.policy import Account

_MOST_NAMED: Final = 10
_ADVICE: Final = "make another with `sidecar account hash-password` when its password is next known"


def warn_of_passwords(root: YamlNode, of_files: Mapping[str, Account]) -> Iterator[Diagnostic]:
    """Yield a warning for each account of the file, and one for all of ``accounts_from``."""
    section = root.at("accounts")
    for name, account in (section.entries() if section is not None else {}).items():
        node = account.at("password_hash")
        weakness = "" if node is None else _weakness_of(node.text())
        if weakness:
            where = f"accounts.{name}.password_hash"
            text = f"{where}: this hash {weakness}, which is weaker than advised today; {_ADVICE}"
            yield Diagnostic(*account.keys["password_hash"], text)
    weak = [name for name, account in of_files.items() if _weakness_of(account.password_hash)]
    if weak and "accounts_from" in root.keys:
        more = f" and {len(weak) - _MOST_NAMED} more" if len(weak) > _MOST_NAMED else ""
        text = (
            f"accounts_from: the hashes of {', '.join(weak[:_MOST_NAMED])}{more} are weaker than "
            f"advised today; {_ADVICE}"
        )
        yield Diagnostic(*root.keys["accounts_from"], text)


def _weakness_of(text: str | None) -> str:
    found = None if text is None else read_hash(text)
    return "" if found is None else found.weakness
