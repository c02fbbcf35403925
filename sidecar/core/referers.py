"""Takes credentials out of the address in ``Referer``.

The query of a request is read strictly, as what is forwarded of it must be what was judged
(``credentials``). Nothing is judged by ``Referer``, so here the rule is generous: what may be a
credential to anybody who reads the address goes. A parameter is one that

- begins behind ``?``, ``&``, ``;`` or ``#``, each of them as often as it comes, also where a whole
  address stands percent-encoded in another's parameter (``?next=%2Fa%3Ftoken%3D…``);
- has one of the names of ``credentials.query`` in any case, percent-encoded or not.

It ends before the next ``&`` or ``#``. All other bytes stay as they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_find_pieces: Final = re.compile(r"[?&;#]?[^?&;#]*").findall
_MARKS: Final = "?&;#"
_BEGINS: Final = "[?&;#]"
_BEGINS_ENCODED: Final = "%(?:3[Ff]|26|3[Bb]|23)"
_ENDS_NAME: Final = rf"(?:=|%3[Dd]|{_BEGINS_ENCODED}|\Z)"
_FIRST: Final = "?#"
_WITHIN: Final = "?;"  # don't end a parameter that is taken out, as a token may contain them


class RefererRules:
    """What is taken out of ``Referer``; built once. ``names`` are those of query parameters."""

    __slots__ = ("_begins_with_name", "_find_encoded", "_has_any")

    def __init__(self, names: Iterable[str]) -> None:
        listed = "|".join(map(_spellings, names)) or "(?!)"
        self._has_any = re.compile(f"(?:{_BEGINS}|{_BEGINS_ENCODED})(?:{listed})").search
        self._begins_with_name = re.compile(f"(?:{listed}){_ENDS_NAME}").match
        self._find_encoded = re.compile(f"{_BEGINS_ENCODED}(?:{listed}){_ENDS_NAME}").search

    def redact(self, address: str) -> str:
        """Return the address without credentials: the same object if there are none."""
        if self._has_any(address) is None:
            return address
        kept: list[str] = []
        is_within = False  # a parameter that is taken out
        first = ""  # the mark of one that was taken out in front of others
        pieces: list[str] = _find_pieces(address)
        for piece in pieces:
            mark = piece[:1]
            if is_within and mark in _WITHIN:
                continue
            is_within = mark in _MARKS and self._begins_with_name(piece, 1) is not None
            if is_within:
                first = mark if mark in _FIRST else first
                continue
            encoded = self._find_encoded(piece)
            if encoded is not None:
                piece, is_within = piece[: encoded.start()], True
            kept.append(first + piece[1:] if first and mark == "&" else piece)
            first = ""
        rest = "".join(kept)
        return address if rest == address else rest


def _spellings(name: str) -> str:
    """Return a regular expression for every percent-encoding of a name, in any case.

    It matches text that was decoded as Latin-1.
    """
    return "".join(
        f"(?:{_encodings(character.lower())}|{_encodings(character.upper())})" for character in name
    )


def _encodings(character: str) -> str:
    encoded = character.encode()
    raw = re.escape(encoded.decode("latin-1"))
    return raw + "|" + "".join(f"(?i:%{byte:02x})" for byte in encoded)
