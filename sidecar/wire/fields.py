"""Header sections seen before: one that passed the parser need not pass it again.

Requests that repeat a section, but for their token, share what was read of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

SECRET_BYTES: Final = 16
"""A secret that is cut out of a section has at least so many."""

CUT: Final = b"\0"
"""Stands where a secret was cut out; no header section that passed the parser holds it."""

KEY_BYTES: Final = 2048
"""No section, and no head, that is longer is kept."""

_LINES: Final = 4096
_LINE_BYTES: Final = 512

parse_line: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[\x21-\x7e]*) HTTP/1\.1"
).fullmatch
"""Take a plain request line apart: its method and its target."""


class Fields:
    """A header section. Requests that repeat one share it (``FieldMemory``).

    ``headers`` are (name, value) as sent, in order; values without surrounding white space.
    ``length`` is the declared Content-Length, ``None`` for a chunked body, 0 for none. ``cut`` is
    the place among ``headers`` where a secret was cut out, so that NUL stands there instead; -1: of
    none. ``known`` is the gateway's, to keep what follows from the headers.
    """

    __slots__ = ("cut", "headers", "keeps_alive", "known", "length")

    def __init__(
        self,
        headers: tuple[tuple[bytes, bytes], ...],
        length: int | None,
        keeps_alive: bool,
        cut: int = -1,
    ) -> None:
        self.headers = headers
        self.length = length
        self.keeps_alive = keeps_alive
        self.cut = cut
        self.known: Any = None

    def without(self, secret: bytes, cut: int) -> Fields | None:
        """Return the section with a secret cut out at a place, if that is where it ends a value."""
        name, value = self.headers[cut]
        if not value.endswith(secret):
            return None
        stem = (name, value[: len(value) - len(secret)] + CUT)
        headers = (*self.headers[:cut], stem, *self.headers[cut + 1 :])
        return Fields(headers, self.length, self.keeps_alive, cut)


class FieldMemory:
    """Header sections seen before: one that passed the parser need not pass again.

    Sections are told apart by their bytes, less one secret: the token of ``Authorization: Bearer``
    and the like, or of a header that ``names`` has. It is cut out, so that callers who differ in
    nothing else share a section, and none is held here. That is safe as any other secret in its
    place, of visible characters, would pass the parser likewise.

    What a section means does not depend on the request line, for the methods and the version that
    are remembered; sections with a Transfer-Encoding or an upgrade are not. Bounded in number and
    size. Those of requests that were refused have a small place of their own: junk displaces junk
    alone. Request lines without a query are remembered as well, taken apart.
    """

    def __init__(self, names: Iterable[str] = (), most: int = 1024) -> None:
        self._most_passed = most
        self._most_refused = max(1, most // 8)
        self._passed: dict[bytes, Fields] = {}
        self._refused: dict[bytes, Fields] = {}
        self._lines: dict[bytes, tuple[str, str]] = {}
        named = b"".join(rb"|(?i:%b): " % re.escape(name.encode()) for name in names)
        self._find_secret = re.compile(
            rb"\r\n(?:(?i:authorization): (?i:bearer|basic) %b)([\x21-\x7e]{%d,})(?:\r\n|\Z)"
            % (named, SECRET_BYTES)
        ).search

    def __len__(self) -> int:
        return len(self._passed) + len(self._refused)

    def recall(self, section: bytes) -> tuple[Fields, bytes, int] | None:
        """Return the section with these bytes, if it was kept, the secret cut out of it, and where
        that began.
        """
        found = self._find_secret(section)
        start = 0
        if found is None:
            key, secret = section, b""
            if CUT in section:
                return None
        else:
            start, end = found.span(1)
            key, secret = section[:start] + CUT + section[end:], section[start:end]
        fields = self._passed.get(key) or self._refused.get(key)
        return None if fields is None else (fields, secret, start)

    def keep(self, section: bytes, fields: Fields, *, has_passed: bool = True) -> None:
        """Keep a section; the one kept first goes if there is no room."""
        found = self._find_secret(section)
        key, kept_fields = section, fields
        if found is not None:
            start, end = found.span(1)
            key = section[:start] + CUT + section[end:]
            cut = fields.without(found[1], section.count(b"\r\n", 0, found.start()))
            if cut is None:
                return
            kept_fields = cut
        if len(key) > KEY_BYTES:
            return
        kept, most = (
            (self._passed, self._most_passed) if has_passed else (self._refused, self._most_refused)
        )
        if len(kept) >= most:
            del kept[next(iter(kept))]
        kept[key] = kept_fields

    def read_line(self, line: bytes) -> tuple[str, str] | None:
        """Return a request line's method and target; ``None`` unless it is a plain one."""
        known = self._lines.get(line)
        if known is None:
            parsed = parse_line(line)
            if parsed is None:
                return None
            known = parsed[1].decode(), parsed[2].decode()
            if len(line) <= _LINE_BYTES and b"?" not in line:
                if len(self._lines) >= _LINES:
                    self._lines.clear()
                self._lines[line] = known
        return known
