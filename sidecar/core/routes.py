"""Routes: which upstream a request goes to and by which rule; what no route names goes nowhere.

The first route that names both the path and the method wins. A method counts only where it is
named: ``GET`` does not imply ``HEAD`` or ``OPTIONS``, since nothing may pass that no route names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from sidecar.core.model import Denial, Form
from sidecar.core.patterns import PathPattern, normalise_path
from sidecar.core.targets import Target, parse_target

_PLACES: Final = 4096
_PLACE_CHARS: Final = 512

NO_ROUTE: Final = Denial("no_route", "No route is configured for this path.")


@dataclass(frozen=True, slots=True)
class Route:
    """A path pattern and methods, with an upstream and the rule of who may pass."""

    pattern: PathPattern
    methods: frozenset[str] | None
    """The methods named, in capitals; ``None``: any."""
    upstream: str
    """The name of the upstream."""
    forms: frozenset[Form]
    """The credential forms accepted here."""
    accounts: frozenset[str] | None
    """The accounts that may pass; ``None``: every declared account."""
    public: bool
    """Whether requests pass without a credential."""
    name: str
    """What logs and metrics call it: the pattern's text, unless configured."""


class Place(NamedTuple):
    """Where a request goes: its target taken apart, the path as matched, and the route."""

    target: Target
    path: str
    route: Route


class RouteTable:
    """The routes in their order, and a bounded memory of the places that requests went to."""

    __slots__ = ("_places", "_rules", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Final = tuple(routes)
        self._rules = [(r.pattern.regex.fullmatch, r.methods, r) for r in self.routes]
        self._places: dict[tuple[str, str], Place] = {}

    def find(self, method: str, raw_target: str) -> Place | Denial:
        """Take a request target apart and find its route.

        What is remembered holds no query, and so no credential.
        """
        key = (method, raw_target)
        place = self._places.get(key)
        if place is not None:
            return place
        target = parse_target(method, raw_target)
        if isinstance(target, Denial):
            return target
        path = normalise_path(target.path)
        route = self.match(method, path)
        if isinstance(route, Denial):
            return route
        place = Place(target, path, route)
        if target.query is None and len(raw_target) <= _PLACE_CHARS:
            if len(self._places) >= _PLACES:
                self._places.clear()
            self._places[key] = place
        return place

    def match(self, method: str, path: str) -> Route | Denial:
        """Return the first route that names ``path`` (normalised) and ``method``, else the denial.

        The denial is ``no_route``, or ``method_not_allowed`` with every method that some route
        has for this path.
        """
        for is_match, methods, route in self._rules:
            if is_match(path) and (methods is None or method in methods):
                return route
        return self._deny(path)

    def _deny(self, path: str) -> Denial:
        named = [methods for is_match, methods, _ in self._rules if methods and is_match(path)]
        if not named:
            return NO_ROUTE
        return Denial(
            "method_not_allowed",
            "This path is known, but not with this method.",
            allow=tuple(sorted(frozenset().union(*named))),
        )
