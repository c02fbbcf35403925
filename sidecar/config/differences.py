"""Describes what changed between two configurations, without secrets, for the log.

A key declared with ``repr=False`` is secret. A hash or key is shown as a short digest, which can be
compared between processes. A URL is shown only as changed, since a short password in it could be
guessed from a digest.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from sidecar.config.settings import Section, Settings
from sidecar.core.policy import Account

_MOST_DIGEST_BYTES: Final = 1024 * 1024
_MOST_NAMED: Final = 20
_FIXED: Final = (
    *("listen.address", "listen.mode", "listen.group", "listen.proxy_protocol", "listen.tls"),
    "workers",
)
_FIXED_SECTIONS: Final = ("operations", "portal", "store")


class _Difference(NamedTuple):
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}{self.text}"


def differences(old: Settings, new: Settings) -> list[str]:
    """Return one line for each difference, in the model's order, such as ``workers: 1 -> 2``."""
    lines = [str(difference) for difference in _between("", old, new)]
    return lines + _between_files(old.accounts_of_files, new.accounts_of_files)


def needs_restart(running: Settings, new: Settings) -> list[str]:
    """Return the keys that ``new`` changes and that only a restart can apply."""
    keys = dict.fromkeys(difference.path for difference in _between("", running, new))
    return [key for key in keys if is_applied_at_restart(key)]


def is_applied_at_restart(key: str) -> bool:
    """Return whether a change of ``key``, such as ``workers``, waits for a restart."""
    return key in _FIXED or key.split(".")[0] in _FIXED_SECTIONS


def contents_of(settings: Settings) -> dict[str, str]:
    """Return a short digest of each file that the settings name, by key.

    Reads the files; one that can't be read has the digest ``unreadable``.
    """
    return {key: _digest_of_file(path) for key, path in _files("", settings)}


def content_differences(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return a line for each key whose file has changed, by key; the key must be in both."""
    return {
        key: f"{key}: the content of the file, {old[key]} -> {digest}"
        for key, digest in new.items()
        if old.get(key, digest) != digest
    }


# Comparing.


def _between_files(old: Mapping[str, Account], new: Mapping[str, Account]) -> list[str]:
    """Return a line for each of a few accounts in files, or the numbers of many."""
    added, removed = new.keys() - old.keys(), old.keys() - new.keys()
    changed = {name for name in new.keys() & old.keys() if new[name] != old[name]}
    parts = [(added, "added"), (removed, "removed"), (changed, "changed")]
    if len(added) + len(removed) + len(changed) > _MOST_NAMED:
        counts = ", ".join(f"{len(names)} {what}" for names, what in parts if names)
        return [f"accounts_from: {counts}"]
    return [f"accounts.{name} {what}" for names, what in parts for name in sorted(names)]


def _between(path: str, old: Section, new: Section) -> Iterator[_Difference]:
    was, is_now = old.model_dump(mode="json"), new.model_dump(mode="json")
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        key = f"{path}.{name}" if path else name
        if before == after:
            continue
        if not field.repr:
            yield _Difference(key, _secret_difference(name, before, after))
        else:
            yield from _values(key, (before, after), (was[name], is_now[name]))


def _values(path: str, pair: tuple[Any, Any], texts: tuple[Any, Any]) -> Iterator[_Difference]:
    """Compare the values of a key; ``texts`` are the values as the file spells them."""
    before, after = pair
    if isinstance(before, Section) and isinstance(after, Section):
        yield from _between(path, before, after)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _entries(path, before, after, texts)
    elif _is_list_of_sections(before) or _is_list_of_sections(after):
        yield from _lists(path, before, after)
    elif isinstance(before, Section) or isinstance(after, Section):
        yield _Difference(path, " added" if before is None else " removed")
    else:
        yield _Difference(path, f": {_shown(texts[0])} -> {_shown(texts[1])}")


def _entries(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any], texts: tuple[Any, Any]
) -> Iterator[_Difference]:
    for name in [*before, *(name for name in after if name not in before)]:
        key = f"{path}.{name}"
        if name not in after:
            yield _Difference(key, " removed")
        elif name not in before:
            label = "" if isinstance(after[name], Section) else f": {_shown(texts[1][name])}"
            yield _Difference(key, f" added{label}")
        elif before[name] != after[name]:
            pair = (before[name], after[name])
            yield from _values(key, pair, (texts[0][name], texts[1][name]))


def _is_list_of_sections(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], Section)


def _lists(
    path: str, before: tuple[Section, ...], after: tuple[Section, ...]
) -> Iterator[_Difference]:
    """Compare two lists; an entry inserted at the front leaves the others unchanged."""
    spelt = [[item.model_dump_json() for item in items] for items in (before, after)]
    matcher = difflib.SequenceMatcher(None, spelt[0], spelt[1], autojunk=False)
    for what, start, end, new_start, new_end in matcher.get_opcodes():
        if what == "equal":
            continue
        in_both = min(end - start, new_end - new_start)
        for offset in range(in_both):
            key = f"{path}[{new_start + offset}]"
            yield from _between(key, before[start + offset], after[new_start + offset])
        for index in range(start + in_both, end):
            yield _Difference(f"{path}[{index}]", f" removed: {_label(before[index])}")
        for index in range(new_start + in_both, new_end):
            yield _Difference(f"{path}[{index}]", f" added: {_label(after[index])}")


def _label(item: Section) -> str:
    """Return what identifies an entry of a list to people: a route's path, a key's id."""
    return _shown(getattr(item, next(iter(type(item).model_fields))))


# Formatting.


def _secret_difference(name: str, before: object, after: object) -> str:
    if before is None or after is None:
        return " added" if before is None else " removed"
    if "url" in name:
        return " changed (a URL is not shown)"
    return f": {_digest(str(before).encode())} -> {_digest(str(after).encode())}"


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str) and value.isprintable():
        return value or '""'
    return json.dumps(value)


def _digest(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()[:8]}"


# Files.


def _files(path: str, section: Section) -> Iterator[tuple[str, Path]]:
    for name in type(section).model_fields:
        yield from _files_in(f"{path}.{name}" if path else name, getattr(section, name))


def _files_in(path: str, value: object) -> Iterable[tuple[str, Path]]:
    if isinstance(value, Path):
        yield path, value
    elif isinstance(value, Section):
        yield from _files(path, value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _files_in(f"{path}.{name}", item)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _files_in(f"{path}[{index}]", item)


def _digest_of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _digest(file.read(_MOST_DIGEST_BYTES))
    except OSError:
        return "unreadable"
