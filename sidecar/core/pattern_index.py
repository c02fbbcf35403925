"""Finds, among thousands of patterns, those that cover another or share a path with it.

A tree by segments, so that a question costs no more for patterns that differ in a literal segment.
Where many patterns are alike, a question visits many: ``visited`` counts the nodes, so that a user
can set a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidecar.core.pattern_cover import (
    NAMED,
    PatternShape,
    ends_of,
    segment_covers,
    segments_overlap,
)


class _Node:
    __slots__ = ("children", "ends", "globs", "rests")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        """By literal segment, and by ``NAMED`` and ``*``."""
        self.globs: dict[tuple[str, str], dict[str, _Node]] = {}
        """By what stands before the first asterisk and after the last, then by the segment."""
        self.ends: list[int] = []
        """The patterns that end here."""
        self.rests: list[int] = []
        """The patterns whose ``/**`` begins here."""

    def all_children(self) -> Iterator[tuple[str, _Node]]:
        yield from self.children.items()
        for globs in self.globs.values():
            yield from globs.items()


class PatternIndex:
    """Numbered patterns."""

    __slots__ = ("_root", "visited")

    def __init__(self) -> None:
        self._root = _Node()
        self.visited = 0
        """How many nodes and patterns all questions have looked at."""

    def add(self, shape: PatternShape, number: int) -> None:
        """Add a pattern under a number."""
        node = self._root
        for segment in shape.segments:
            node = _children_for(node, segment).setdefault(segment, _Node())
        (node.rests if shape.has_rest else node.ends).append(number)

    def covering(self, shape: PatternShape) -> Iterator[int]:
        """Yield the numbers of the patterns that match all that ``shape`` matches, in any order."""
        pending = [(self._root, 0)]
        while pending:
            node, depth = pending.pop()
            yield from self._counted(node.rests)
            if depth < len(shape.segments):
                following = self._covering_children(node, shape.segments[depth])
                pending += [(child, depth + 1) for child in following]
            elif not shape.has_rest:
                yield from self._counted(node.ends)

    def has_path_with(self, shape: PatternShape, accepts: Callable[[int], bool]) -> bool:
        """Tell whether an accepted pattern matches a path that ``shape`` matches too."""
        return any(accepts(number) for number in self._overlapping(shape))

    def _overlapping(self, shape: PatternShape) -> Iterator[int]:
        pending = [(self._root, 0)]
        while pending:
            node, depth = pending.pop()
            yield from self._counted(node.rests)
            if depth < len(shape.segments):
                following = self._overlapping_children(node, shape.segments[depth])
                pending += [(child, depth + 1) for child in following]
                continue
            yield from self._counted(node.ends)
            if shape.has_rest:
                pending += [(child, depth + 1) for _, child in node.all_children()]

    def _counted(self, numbers: list[int]) -> Iterator[int]:
        self.visited += 1
        for number in numbers:
            self.visited += 1
            yield number

    def _overlapping_children(self, node: _Node, segment: str) -> Iterator[_Node]:
        if segment == NAMED or "*" in segment:
            for other, child in node.all_children():
                self.visited += 1
                if segments_overlap(segment, other):
                    yield child
            return
        yield from self._covering_children(node, segment)  # a literal shares with what covers it

    def _covering_children(self, node: _Node, segment: str) -> Iterator[_Node]:
        for other in dict.fromkeys((segment, NAMED, "*")):
            child = node.children.get(other)
            if child is not None and segment_covers(other, segment):
                yield child
        for other, child in _covering_globs(node, segment) if node.globs else ():
            self.visited += 1
            if segment_covers(other, segment):
                yield child


def _children_for(node: _Node, segment: str) -> dict[str, _Node]:
    if "*" not in segment or segment == "*":
        return node.children
    return node.globs.setdefault(ends_of(segment), {})


def _covering_globs(node: _Node, segment: str) -> Iterator[tuple[str, _Node]]:
    """Yield the globs whose ends are ends of ``segment``; only these can cover it."""
    start, _, _ = segment.partition("*")
    _, _, end = segment.rpartition("*")
    if len(start) * len(end) > len(node.globs):
        for (first, last), globs in node.globs.items():
            if start.startswith(first) and end.endswith(last):
                yield from globs.items()
        return
    for head in range(len(start) + 1):
        for tail in range(len(end) + 1):
            yield from node.globs.get((start[:head], end[tail:]), {}).items()
