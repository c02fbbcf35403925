"""Routes: which upstream a request goes to and by which rule; what no route names goes nowhere.

The first route that names both the path and the method wins. A method counts only where it is
named: ``GET`` does not imply ``HEAD`` or ``OPTIONS``, since nothing may pass that no route names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sidecar.core.model import Denial, Form
from sidecar.core.patterns import PathPattern

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


class RouteTable:
    """The routes in their order."""

    __slots__ = ("_rules", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Final = tuple(routes)
        self._rules = [(r.pattern.regex.fullmatch, r.methods, r) for r in self.routes]

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
