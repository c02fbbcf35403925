"""Routes: where a request goes and under which rule. Without a matching route, it goes nowhere.

The first route that matches both the path and the method wins. ``GET`` does not imply ``HEAD`` or
``OPTIONS``, since nothing may pass that no route names. Routes that do not fit cost a look-up
nothing, however many there are (``path_index``). If services may read a path in other ways
(``readings``), all its readings must fall under the same route.

A route may let encoded slashes in (``encoded_slash``). They are matched as part of their segment.
If they are decoded, the path must fall under the same route too, or under none at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from sidecar.core.cors import CorsPolicy
from sidecar.core.credentials import CredentialRules
from sidecar.core.memo import BoundedMemo
from sidecar.core.model import Denial, Form
from sidecar.core.path_index import PathIndex
from sidecar.core.patterns import PathPattern, normalise_path
from sidecar.core.readings import decoded_readings, other_readings
from sidecar.core.targets import ENCODED_DELIMITER, Target, parse_target

_MAX_REMEMBERED: Final = 4096
_MAX_REMEMBERED_CHARS: Final = 512
_ENCODED_SLASH: Final = "%2F"  # as ``normalise_path`` writes it
_NOWHERE: Final = 1 << 31  # behind the last route

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
    encoded_slash: bool = False
    """Whether ``%2F`` may stand in the path."""
    identifies: bool = True
    """Whether credentials are looked at; on a public route, only if they are optional."""
    ignores_bad: bool = False
    """On a public route that identifies: whether a bad credential counts as none."""
    credentials: CredentialRules | None = None
    """Where this route's credentials are looked for; ``None``: where all others' are."""
    cors: CorsPolicy | None = None
    """What pages of other origins may do here; ``None``: nothing is said about that."""


class RouteMatch(NamedTuple):
    """The result of a look-up: the parsed target, the path as matched, and the route."""

    target: Target
    path: str
    route: Route
    readings: tuple[str, ...]
    """Other ways to read the path, none of them under another route; mostly empty."""


class _RoutesOfPath:
    """The routes of one pattern: the first of them for each method, by their places in order."""

    __slots__ = ("_denial", "by_method", "of_any")

    def __init__(self) -> None:
        self.by_method: Final[dict[str, int]] = {}
        self.of_any = _NOWHERE
        self._denial: Denial | None = None

    def add(self, place: int, methods: frozenset[str] | None) -> None:
        """Add a route; earlier ones have been added before."""
        if methods is None:
            self.of_any = min(self.of_any, place)
        else:
            for method in methods:
                self.by_method.setdefault(method, place)

    def deny(self) -> Denial:
        """Return the denial of a method that none of these routes names."""
        if self._denial is None:
            self._denial = _other_method(self.by_method)
        return self._denial


class RouteTable:
    """The routes in their order, and a bounded cache of earlier look-ups."""

    __slots__ = ("_index", "_matches", "_with_slashes", "has_cors", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Final = tuple(routes)
        self._index: Final[PathIndex[_RoutesOfPath]] = PathIndex()
        for place, route in enumerate(self.routes):
            self._index.put(route.pattern, _RoutesOfPath()).add(place, route.methods)
        self._with_slashes: Final = any(route.encoded_slash for route in self.routes)
        self.has_cors: Final = any(route.cors is not None for route in self.routes)
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
        matched = self.look_up(method, raw_target)
        if isinstance(matched, RouteMatch):
            is_kept = matched.target.query is None and len(raw_target) <= _MAX_REMEMBERED_CHARS
            if is_kept:
                self._matches.put(key, matched)
        return matched

    def look_up(self, method: str, raw_target: str) -> RouteMatch | Denial:
        """Do what ``find`` does, without its cache: ``method`` may be anything."""
        target = parse_target(method, raw_target, with_slashes=self._with_slashes)
        return target if isinstance(target, Denial) else self.match_target(method, target)

    def match_target(self, method: str, target: Target) -> RouteMatch | Denial:
        """Find the route of a target; refuse it if its path can be read as another route's."""
        path = normalise_path(target.path)
        decoded = decoded_readings(target.path) if _ENCODED_SLASH in path else ()
        route = self.match(method, path)
        if decoded and (isinstance(route, Denial) or not route.encoded_slash):
            return ENCODED_DELIMITER
        if isinstance(route, Denial):
            return route
        readings = other_readings(target.path, path)
        for reading in readings:
            if self._first(method, self._index.find(reading)) is not route:
                return OTHER_ROUTE
        for reading in decoded:
            fitting = self._index.find(reading)
            if fitting and self._first(method, fitting) is not route:
                return OTHER_ROUTE
        return RouteMatch(target, path, route, (*readings, *decoded) if decoded else readings)

    def match(self, method: str, path: str) -> Route | Denial:
        """Return the first route that matches ``path`` (normalised) and ``method``, else a denial.

        The denial is ``no_route``, or ``method_not_allowed`` with all methods that routes name for
        this path.
        """
        fitting = self._index.find(path)
        route = self._first(method, fitting)
        return _deny(fitting) if route is None else route

    def _first(self, method: str, fitting: list[_RoutesOfPath]) -> Route | None:
        first = _NOWHERE
        for routes in fitting:
            first = min(first, routes.of_any, routes.by_method.get(method, _NOWHERE))
        return None if first == _NOWHERE else self.routes[first]


def _deny(fitting: list[_RoutesOfPath]) -> Denial:
    """Return why none of the routes that match a path matches the request."""
    if not fitting:
        return NO_ROUTE
    if len(fitting) == 1:
        return fitting[0].deny()
    return _other_method({method for routes in fitting for method in routes.by_method})


def _other_method(allowed: Iterable[str]) -> Denial:
    text = "This path is known, but not with this method."
    return Denial("method_not_allowed", text, allow=tuple(sorted(allowed)))
