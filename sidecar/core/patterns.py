"""Path patterns: which paths a route, an account or a token covers.

==================  ===========================================================================
``{name}``          one whole, non-empty segment
``*``               any characters within a segment, or none
``/**`` at the end  any rest of the path, or none: ``/public/**`` matches ``/public``,
                    ``/public/`` and ``/public/a/b``
anything else       itself, case-sensitively
==================  ===========================================================================

Patterns are matched against the path as sent, read as the upstream will read it: in paths and
patterns alike, a percent-encoded character counts as itself (``normalise_path``). Otherwise
``/my%2Dadmin`` would slip past a rule for ``/my-admin`` and match a wider rule below it. Only
delimiters (``%2F``, ``%3F``, ``%23``, ``%25``), the asterisk of patterns (``%2A``) and non-ASCII
bytes stay encoded.
"""

from __future__ import annotations

import re
from typing import Final

_COUNTS_AS_ITSELF: Final = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()+,;=:@[]"
)
_DECODED: Final = {f"{ord(character):02X}": character for character in _COUNTS_AS_ITSELF}
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_CHARACTER: Final = re.compile(r"[^\x21-\x7e]|[?#\\]")
_NAMED_SEGMENT: Final = re.compile(r"\{[A-Za-z_][A-Za-z0-9_-]*\}")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadPattern(ValueError):
    """A text is not a path pattern; ``reason`` continues a sentence that begins with the text."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"the path pattern {text!r} {reason}")
        self.reason = reason


Segment = tuple[str, ...]
"""One segment of a pattern: ``()`` is ``{name}``, one text is that text, and more are the texts
between stars, of which the first and the last may be empty."""

ANY_TEXT: Final[Segment] = ("", "")
"""``*``."""


class PathPattern:
    """A pattern, taken apart; two are equal if their texts are."""

    __slots__ = ("_regex", "covers_rest", "segments", "text")

    def __init__(self, text: str, segments: tuple[Segment, ...], covers_rest: bool) -> None:
        self.text: Final = text
        self.segments: Final = segments
        """What stands between the slashes, without a trailing ``/**``."""
        self.covers_rest: Final = covers_rest
        """Whether the pattern ends in ``/**``."""
        self._regex: re.Pattern[str] | None = None

    def __repr__(self) -> str:
        return f"PathPattern(text={self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def regex(self) -> re.Pattern[str]:
        """What matches whole paths. Made at its first use: most patterns of a large table are
        looked up in a ``PathIndex`` and never need it.
        """
        regex = self._regex
        if regex is None:
            head = "".join(f"/{_segment_regex(segment)}" for segment in self.segments)
            rest = "(?:/.*)?" if self.covers_rest else ""
            regex = self._regex = re.compile(head + rest, re.DOTALL)
        return regex

    def matches(self, path: str) -> bool:
        """Tell whether the pattern matches ``path``, which ``normalise_path`` returned.

        The worst-case time is proportional to the path's length times the pattern's.
        """
        return self.regex.fullmatch(path) is not None


def normalise_path(path: str) -> str:
    """Decode characters that count as themselves, and write other encodings in upper case (RFC 3986
    section 6.2.2).

    Decodes once: ``%2541`` stays as it is. A path without ``%`` is returned unchanged.
    """
    return _ENCODED.sub(_decode, path) if "%" in path else path


def _decode(found: re.Match[str]) -> str:
    digits = found[1].upper()
    return _DECODED.get(digits) or f"%{digits}"


def compile_pattern(text: str) -> PathPattern:
    """Compile a pattern; raise ``BadPattern`` that says in one sentence what is wrong."""
    _check(text)
    covers_rest = text.endswith("/**")
    head = normalise_path(text.removesuffix("/**"))
    segments = tuple(_parse_segment(segment, text) for segment in head.split("/")[1:])
    return PathPattern(text, segments, covers_rest)


def holds(middle: str, texts: Segment) -> bool:
    """Tell whether a text holds others, one behind the other.

    The leftmost place of each is always as good as a later one.
    """
    at = 0
    for text in texts:
        at = middle.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return True


def _check(text: str) -> None:
    if not text.startswith("/"):
        raise BadPattern(text, "does not start with a slash")
    if found := _BAD_CHARACTER.search(text):
        raise BadPattern(text, f"holds {found[0]!r}, which no path can contain")
    if _BAD_PERCENT.search(text):
        raise BadPattern(text, "has a % without two hex digits after it")
    if {".", ".."} & {*normalise_path(text).split("/")}:
        raise BadPattern(text, "has a dot segment, which no path may have")


def _parse_segment(segment: str, text: str) -> Segment:
    if "{" in segment or "}" in segment:
        if _NAMED_SEGMENT.fullmatch(segment):
            return ()
        raise BadPattern(text, "has braces that are not a whole segment {name}")
    if "**" in segment:
        raise BadPattern(text, "has a ** that is not a final /**")
    return tuple(segment.split("*"))


def _segment_regex(segment: Segment) -> str:
    if not segment:
        return "[^/]+"
    first, *others = segment
    if not others:
        return re.escape(first)
    return re.escape(first) + _starred_regex(*others)


def _starred_regex(*literals: str) -> str:
    """Match each literal after any run of characters, the last one at the segment's end.

    The leftmost occurrence of a literal is always as good as a later one. So each search but the
    last is written to match in one way only, nothing backtracks, and many stars cost no more than
    one.
    """
    *inner, last = literals
    searches = "".join(_leftmost_regex(literal) for literal in inner if literal)
    return f"{searches}[^/]*{re.escape(last)}"


def _leftmost_regex(literal: str) -> str:
    """Match up to the end of the leftmost ``literal`` in the segment, and nothing else.

    An atomic group would be shorter, but atomic groups and possessive repeats are broken in ``re``
    before Python 3.11.5, so this program uses neither.
    """
    first, rest = re.escape(literal[0]), re.escape(literal[1:])
    other = f"[^/{first}]*"
    if not rest:
        return other + first
    return f"{other}(?:{first}(?!{rest}){other})*{first}{rest}"
