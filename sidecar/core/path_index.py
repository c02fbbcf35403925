"""Many path patterns at once: which of them match a path, without trying each.

The patterns form a tree, segment by segment; patterns that begin alike share a branch. A path is
walked from the root, and at each of its segments only those branches are followed that fit it:

- a literal, by one look-up;
- ``{name}``, if the segment is not empty;
- segments with stars, by what stands before the first star and after the last one: one look-up for
  each pair of lengths that occurs there, such as 2 and 0 for ``a1*``. If many patterns agree in
  both, they are looked up by the longest text between their stars.

So patterns that do not fit cost nothing, however many there are. Nothing is tried twice: a branch
is reached by one way only, so a walk takes as many steps as there are different beginnings of
patterns that fit the beginning of the path, plus one for each segment. The worst case is a
configuration whose patterns nearly all fit, up to their last segment: then each is looked at once,
as it would be in a list. How long a path is doesn't matter beyond the deepest pattern.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from sidecar.core.patterns import PathPattern, Segment, holds

ValueT = TypeVar("ValueT")

_FEW: Final = 16  # trying so many is cheaper than looking texts up at each place of a segment


class PathIndex(Generic[ValueT]):
    """Values by the patterns they belong to. Patterns that match the same paths share a value."""

    __slots__ = ("_depth", "_root")

    def __init__(self) -> None:
        self._root: Final[_Node[ValueT]] = _Node()
        self._depth = 0

    def put(self, pattern: PathPattern, value: ValueT) -> ValueT:
        """Return the value that the pattern has already, or else give it this one."""
        node = self._root
        for segment in pattern.segments:
            node = node.grow(segment)
        self._depth = max(self._depth, len(pattern.segments))
        if pattern.covers_rest:
            node.rest = value if node.rest is None else node.rest
            return node.rest
        node.end = value if node.end is None else node.end
        return node.end

    def find(self, path: str) -> list[ValueT]:
        """Return the values of all patterns that match ``path`` (normalised), in no order."""
        found: list[ValueT] = []
        pieces = path.split("/", self._depth + 1)  # the last piece may hold slashes: no node is
        if pieces[0]:  # so deep that it would look at it
            return found
        last = len(pieces) - 1
        nodes = [self._root]
        depth = 0
        while nodes:
            fitting: list[_Node[ValueT]] = []
            segment = "" if depth == last else pieces[depth + 1]
            for node in nodes:
                rest = node.rest
                if rest is not None:
                    found.append(rest)
                if depth < last:
                    node.follow(segment, fitting)
                elif node.end is not None:
                    found.append(node.end)
            nodes = fitting
            depth += 1
        return found


class PathList:
    """Patterns of which one is enough. Long lists are looked up in an index, and cost no more than
    short ones.
    """

    __slots__ = ("_index", "patterns")

    def __init__(self, patterns: Iterable[PathPattern] = ()) -> None:
        self.patterns: Final = tuple(patterns)
        self._index: PathIndex[bool] | None = None
        if len(self.patterns) > _FEW:
            self._index = PathIndex()
            for pattern in self.patterns:
                self._index.put(pattern, True)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathList) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def covers(self, path: str) -> bool:
        """Tell whether any pattern matches ``path`` (normalised)."""
        if self._index is not None:
            return bool(self._index.find(path))
        for pattern in self.patterns:  # noqa: SIM110 - half the time of any(), and on the hot path
            if pattern.matches(path):
                return True
        return False


class _Node(Generic[ValueT]):
    """What may follow one beginning. ``end``: a pattern's value that ends here; ``rest``: that of
    one with ``/**`` here.
    """

    __slots__ = ("_literals", "_named", "_starred", "end", "rest")

    def __init__(self) -> None:
        self.end: ValueT | None = None
        self.rest: ValueT | None = None
        self._literals: Final[dict[str, _Node[ValueT]]] = {}
        self._named: _Node[ValueT] | None = None
        self._starred: _StarredSegments[ValueT] | None = None

    def grow(self, segment: Segment) -> _Node[ValueT]:
        """Return the node behind a segment of a pattern; a new one if there is none."""
        if not segment:
            named = self._named
            if named is None:
                named = self._named = _Node()
            return named
        if len(segment) == 1:
            node = self._literals.get(segment[0])
            if node is None:
                node = self._literals[segment[0]] = _Node()
            return node
        starred = self._starred
        if starred is None:
            starred = self._starred = _StarredSegments()
        return starred.grow(segment)

    def follow(self, segment: str, fitting: list[_Node[ValueT]]) -> None:
        """Add the nodes behind all that fits a segment of a path."""
        literal = self._literals.get(segment)
        if literal is not None:
            fitting.append(literal)
        named = self._named
        if named is not None and segment:
            fitting.append(named)
        starred = self._starred
        if starred is not None:
            starred.follow(segment, fitting)


class _StarredSegments(Generic[ValueT]):
    """The nodes behind segments with stars, by the texts before and after these.

    Segments without a text after their stars, which are most, are kept by what comes before.
    """

    __slots__ = ("_begun", "_framed", "_nodes")

    def __init__(self) -> None:
        self._nodes: Final[dict[Segment, _Node[ValueT]]] = {}
        self._begun: Final[dict[int, dict[str, _Alike[ValueT]]]] = {}
        self._framed: Final[dict[tuple[int, int], dict[str, _Alike[ValueT]]]] = {}

    def grow(self, segment: Segment) -> _Node[ValueT]:
        """See ``_Node.grow``."""
        node = self._nodes.get(segment)
        if node is None:
            node = self._nodes[segment] = _Node()
            first, *inner, last = segment
            if last:
                group = self._framed.setdefault((len(first), len(last)), {})
            else:
                group = self._begun.setdefault(len(first), {})
            group.setdefault(first + last, _Alike()).add(tuple(inner), node)
        return node

    def follow(self, segment: str, fitting: list[_Node[ValueT]]) -> None:
        """See ``_Node.follow``."""
        for before, group in self._begun.items():
            alike = group.get(segment[:before])
            if alike is not None:
                alike.follow(segment, before, len(segment), fitting)
        for (before, after), group in self._framed.items():
            end = len(segment) - after
            if before <= end:
                alike = group.get(segment[:before] + segment[end:])
                if alike is not None:
                    alike.follow(segment, before, end, fitting)


class _Alike(Generic[ValueT]):
    """The nodes behind starred segments that begin and end alike, by the texts between stars."""

    __slots__ = ("_all", "_by_longest", "_plain")

    def __init__(self) -> None:
        self._plain: _Node[ValueT] | None = None
        self._all: list[tuple[Segment, _Node[ValueT]]] = []
        self._by_longest: Final[dict[int, dict[str, list[tuple[Segment, _Node[ValueT]]]]]] = {}

    def add(self, inner: Segment, node: _Node[ValueT]) -> None:
        """Add the node behind a segment with these texts between its stars."""
        if not inner:
            self._plain = node
            return
        self._all.append((inner, node))
        longest = max(inner, key=len)
        self._by_longest.setdefault(len(longest), {}).setdefault(longest, []).append((inner, node))

    def follow(self, segment: str, start: int, end: int, fitting: list[_Node[ValueT]]) -> None:
        """Add the nodes that fit what a segment holds from ``start`` to ``end``."""
        if self._plain is not None:
            fitting.append(self._plain)
        if not self._all:
            return
        middle = segment[start:end]
        if len(self._all) <= _FEW:
            _add_held(middle, self._all, fitting)
            return
        for size, by_text in self._by_longest.items():
            held = {middle[at : at + size] for at in range(len(middle) - size + 1)}
            for text in held & by_text.keys():
                _add_held(middle, by_text[text], fitting)


def _add_held(
    middle: str,
    candidates: list[tuple[Segment, _Node[ValueT]]],
    fitting: list[_Node[ValueT]],
) -> None:
    for texts, node in candidates:
        if holds(middle, texts):
            fitting.append(node)
