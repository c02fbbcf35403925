"""Which paths two patterns share: does one match all that the other matches, is there one of both?

Both questions are answered for the patterns as ``patterns`` matches them, segment by segment. Paths
are taken to be any text that begins with a slash, whether or not a request could ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.core.patterns import ANY_TEXT, compile_pattern, holds

NAMED: Final = "{}"
"""Stands for every ``{name}``; no other segment may contain braces."""


@dataclass(frozen=True, slots=True)
class PatternShape:
    """What a pattern matches, without what its placeholders are called."""

    segments: tuple[str, ...]
    """Literals, ``NAMED``, or texts with asterisks; the first is empty."""
    has_rest: bool
    """Whether ``/**`` ends the pattern."""


def shape_of(text: str) -> PatternShape:
    """Return the shape of a valid pattern."""
    pattern = compile_pattern(text)
    segments = pattern.segments or (ANY_TEXT,)  # "/**": every path begins with a slash
    return PatternShape(
        ("", *("*".join(segment) if segment else NAMED for segment in segments)),
        pattern.covers_rest,
    )


def covers(wide: PatternShape, narrow: PatternShape) -> bool:
    """Tell whether ``wide`` matches every path that ``narrow`` matches."""
    ours, theirs = len(wide.segments), len(narrow.segments)
    if theirs < ours if wide.has_rest else (theirs != ours or narrow.has_rest):
        return False
    pairs = zip(wide.segments, narrow.segments, strict=False)
    return all(segment_covers(one, other) for one, other in pairs)


def overlap(one: PatternShape, other: PatternShape) -> bool:
    """Tell whether there is a path that both match."""
    ours, theirs = len(one.segments), len(other.segments)
    if (ours < theirs and not one.has_rest) or (theirs < ours and not other.has_rest):
        return False
    pairs = zip(one.segments, other.segments, strict=False)
    return all(segments_overlap(ours, theirs) for ours, theirs in pairs)


def segment_covers(wide: str, narrow: str) -> bool:
    """Tell whether a segment of one pattern matches all that a segment of the other does."""
    if wide == narrow:
        return True
    if wide == NAMED:
        return narrow not in ("", "*")
    if "*" not in wide:
        return False
    # An asterisk of `narrow` may stand for any text, so only an asterisk of `wide` matches it.
    return wide == "*" if narrow == NAMED else _is_matched(wide, narrow)


def segments_overlap(one: str, other: str) -> bool:
    """Tell whether there is a text that a segment of one pattern and one of the other match."""
    if NAMED in (one, other):
        return "" not in (one, other)
    if "*" not in one:
        return one == other if "*" not in other else _is_matched(other, one)
    if "*" not in other:
        return _is_matched(one, other)
    # What stands between the first and the last asterisk can always be written one after the other.
    heads, tails = ends_of(one), ends_of(other)
    return _is_prefix_of_either(heads[0], tails[0]) and _is_prefix_of_either(
        heads[1][::-1], tails[1][::-1]
    )


def ends_of(glob: str) -> tuple[str, str]:
    """Return what stands before the first asterisk, and what stands after the last one."""
    return glob[: glob.index("*")], glob[glob.rindex("*") + 1 :]


def _is_prefix_of_either(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _is_matched(glob: str, text: str) -> bool:
    """Match ``text`` by a glob with at least one asterisk; an asterisk in ``text`` is a letter."""
    first, *inner, last = glob.split("*")
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    return holds(text[len(first) : len(text) - len(last)], tuple(inner))
