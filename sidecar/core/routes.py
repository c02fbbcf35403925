"""Routes: where a request goes and under which rule. Without a matching route, it goes nowhere.

The first route that matches both the path and the method wins. ``GET`` does not imply ``HEAD`` or
``OPTIONS``, since nothing may pass that no route names. If services may read a path in other ways
(``readings``), all its readings must fall under the same route.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from sidecar.core.memo import BoundedMemo
from sidecar.core.model import Denial, Form
from sidecar.core.patterns import PathPattern, normalise_path
from sidecar.core.readings import other_readings
from sidecar.core.targets import Target, parse_target

_MAX_REMEMBERED: Final = 4096
_MAX_REMEMBERED_CHARS: Final = 512

NO_ROUTE: Final = Denial("no_route", "No route is configured for this path.")
OTHER_ROUTE: Final = Denial(
    "unsafe_path", "Some services read this path as another, which does not fall under this route."
)


@dataclass(frozen=True, slots=True)
class Route:
    """A path pattern and methods, an upstream, and who may pass."""

    pattern: PathPattern
    methods: frozenset[str] | None
    """The methods named, in capitals; ``None``: any."""
    upstream: str
    """The name of the upstream."""
    forms: frozenset[Form]
    """The credential forms accepted here."""
    accounts: frozenset[str] | None
    """The accounts that may pass, beside those of ``groups``; ``None``: every declared account."""
    public: bool
    """Whether requests pass without a credential."""
    name: str
    """What logs and metrics call it: the text of the pattern."""
    groups: frozenset[str] = frozenset()
    """The groups whose accounts may pass."""


class RouteMatch(NamedTuple):
    """The result of a look-up: the parsed target, the path as matched, and the route."""

    target: Target
    path: str
    route: Route
    readings: tuple[str, ...]
    """Other ways to read the path, all under the same route; mostly empty."""


class RouteTable:
    """The routes in their order, and a bounded cache of earlier look-ups."""

    __slots__ = ("_matches", "_rules", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Final = tuple(routes)
        self._rules = [(r.pattern.regex.fullmatch, r.methods, r) for r in self.routes]
        self._matches: Final[BoundedMemo[tuple[str, str], RouteMatch]] = BoundedMemo(
            _MAX_REMEMBERED
        )

    def find(self, method: str, raw_target: str) -> RouteMatch | Denial:
        """Parse a request target and find its route.

        Targets with a query, which may hold a credential, are not cached.
        """
        key = (method, raw_target)
        found = self._matches.get(key)
        if found is not None:
            return found
        target = parse_target(method, raw_target)
        if isinstance(target, Denial):
            return target
        matched = self.match_target(method, target)
        is_kept = target.query is None and len(raw_target) <= _MAX_REMEMBERED_CHARS
        if is_kept and isinstance(matched, RouteMatch):
            self._matches.put(key, matched)
        return matched

    def match_target(self, method: str, target: Target) -> RouteMatch | Denial:
        """Find the route of a target; refuse it unless all readings of its path share the route."""
        path = normalise_path(target.path)
        route = self._first(method, path)
        if route is None:
            return self._deny(path)
        readings = other_readings(target.path, path)
        for reading in readings:
            if self._first(method, reading) is not route:
                return OTHER_ROUTE
        return RouteMatch(target, path, route, readings)

    def match(self, method: str, path: str) -> Route | Denial:
        """Return the first route that matches ``path`` (normalised) and ``method``, else a denial.

        The denial is ``no_route``, or ``method_not_allowed`` with all methods that routes name for
        this path.
        """
        route = self._first(method, path)
        return self._deny(path) if route is None else route

    def _first(self, method: str, path: str) -> Route | None:
        for is_match, methods, route in self._rules:
            if is_match(path) and (methods is None or method in methods):
                return route
        return None

    def _deny(self, path: str) -> Denial:
        named = [methods for is_match, methods, _ in self._rules if methods and is_match(path)]
        if not named:
            return NO_ROUTE
        return Denial(
            "method_not_allowed",
            "This path is known, but not with this method.",
            allow=tuple(sorted(frozenset().union(*named))),
        )
