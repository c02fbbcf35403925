"""Routes that never decide, and accounts and upstreams that no route serves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Final

from sidecar.config.diagnostics import Diagnostic, shown
from sidecar.config.document import Position, YamlNode
from sidecar.core.pattern_cover import PatternShape, shape_of
from sidecar.core.pattern_index import PatternIndex

_MOST_VISITED: Final = 300_000
"""How far patterns are compared: about half a second's work; 5000 ordinary routes need 50 000."""

_PLACEHOLDERS: Final = (
    (re.compile(r":([A-Za-z_]\w*)[?*+]?"), "{{{0}}}"),
    (re.compile(r"<(?:\w+:)?([A-Za-z_][\w-]*)>"), "{{{0}}}"),
    (re.compile(r"\$((?:[a-z]+_?)?(?:[iI]d|uuid|slug|name|key|user|tenant))"), "{{{0}}}"),
    (re.compile(r"\[(?:\.\.\.)?([A-Za-z_]\w*)\]"), "{{{0}}}"),
)
"""How other programs write a placeholder, as a whole segment; ``$metadata`` is none."""
_SOME: Final = "a segment in the style of another program"
_REGEX: Final = re.compile(
    r"(?<=/)\.[*+](?=/|\$|$)|\(\.|\[\^|\[\w-\w|\][+*]|\)[+*]|\(\w+\||\$$|(?<=/)\.\.\.(?=/|$)"
)


@dataclass(frozen=True, slots=True)
class _RouteEntry:
    index: int
    node: YamlNode
    shape: PatternShape
    methods: frozenset[str] | None
    accounts: frozenset[str] | None
    is_public: bool
    takes_encoded_slashes: bool

    @property
    def path(self) -> str:
        return f"routes[{self.index}]"

    @property
    def position(self) -> Position:
        found = self.node.at("path")
        return found.position if found is not None else self.node.position

    def admits(self, callers: Set[str]) -> bool:
        """Tell whether it lets in an account, given as its name and those of its groups."""
        return not self.is_public and (
            self.accounts is None or not self.accounts.isdisjoint(callers)
        )

    def names(self) -> str:
        """Name the route for another route's warning."""
        pattern = self.node.at("path")
        text = (pattern.text() or "") if pattern is not None else ""
        text = text if type(text) is str else repr(text)  # which shows no substituted value
        return f"{self.path} ({text}{', public' if self.is_public else ''})"


def warn_of_routes(root: YamlNode) -> Iterator[Diagnostic]:
    """Yield the warnings about the routes of a valid file, and what they leave unused."""
    routes = [*_routes_of(root)]
    index = PatternIndex()
    yield from _warn_of_hidden_routes(routes, index)
    for route in routes:
        yield from _warn_of_spelling(route.node.at("path"), f"{route.path}.path")
    yield from _warn_of_accounts(root, routes, index)
    yield from _warn_of_unused_upstreams(root, routes)


def _routes_of(root: YamlNode) -> Iterator[_RouteEntry]:
    section = root.at("routes")
    for index, node in enumerate(section.items() if section is not None else []):
        path = node.at("path")
        yield _RouteEntry(
            index,
            node,
            shape_of((path.text() if path is not None else None) or "/"),
            _names_in(node.at("methods")),
            _names_in(node.at("accounts")),
            _is_true(node.at("public")),
            _is_true(node.at("encoded_slash")),
        )


def _names_in(node: YamlNode | None) -> frozenset[str] | None:
    return None if node is None else frozenset(str(item.value) for item in node.items())


def _is_true(node: YamlNode | None) -> bool:
    return node is not None and (node.value is True or node.text() == "true")


# Routes that an earlier one hides.


def _warn_of_hidden_routes(routes: list[_RouteEntry], index: PatternIndex) -> Iterator[Diagnostic]:
    """Add the routes to ``index``, each after a look at those before it."""
    hidden = []
    for route in routes:
        if index.visited > _MOST_VISITED:
            text = "too many routes are alike: from here on, none is compared with those before it"
            yield Diagnostic(*route.position, f"{route.path}.path: {text}")
            return
        found = _hiding(route, routes, index)
        if found.routes:
            yield Diagnostic(*route.position, _hidden_text(route, found))
        if found.is_whole:
            hidden.append(route)  # what it covers is covered by what hides it
        else:
            index.add(route.shape, route.index)
    for route in hidden:
        index.add(route.shape, route.index)


@dataclass(frozen=True, slots=True)
class _Hiding:
    """The earlier routes that take requests from a route, and the methods of these requests."""

    routes: tuple[_RouteEntry, ...] = ()
    methods: frozenset[str] = frozenset()
    is_whole: bool = False
    """Whether nothing is left for the route."""


def _hiding(route: _RouteEntry, routes: list[_RouteEntry], index: PatternIndex) -> _Hiding:
    """Find what takes all requests of a route, or all those with a method that the route names.

    A route for any method after one for some is what remains for the other methods.
    """
    named = route.methods or frozenset()
    left, hiding = named, []
    for number in sorted(index.covering(route.shape)):
        earlier = routes[number]
        if route.takes_encoded_slashes and not earlier.takes_encoded_slashes:
            continue
        if earlier.methods is None or (named and named <= earlier.methods):
            return _Hiding((earlier,), is_whole=True)
        if left & earlier.methods:
            left -= earlier.methods
            hiding.append(earlier)
    return _Hiding(tuple(hiding), named - left, is_whole=bool(hiding) and not left)


def _hidden_text(route: _RouteEntry, found: _Hiding) -> str:
    who = " and ".join(earlier.names() for earlier in found.routes)
    verb = "matches" if len(found.routes) == 1 else "match"
    methods = " and ".join(sorted(found.methods))
    what = "all of its requests" if found.is_whole else f"its {methods} requests"
    then = (
        "this route never decides anything" if found.is_whole else f"{methods} has no effect here"
    )
    if not route.is_public and any(earlier.is_public for earlier in found.routes):
        then = "nobody is asked for a credential" + ("" if found.is_whole else " then")
    where = f"{route.path}.path"
    advice = "move it up, or remove " + ("it" if found.is_whole else f"{methods} from its methods")
    return f"{where}: {who} already {verb} {what}, and the first match wins, so {then}; {advice}"


# Spellings of other programs, which match themselves here.


def _warn_of_spelling(node: YamlNode | None, path: str) -> Iterator[Diagnostic]:
    text = node.text() if node is not None else None
    if node is None or text is None:
        return
    for segment in text.split("/"):
        for spelling, ours in _PLACEHOLDERS:
            if (found := spelling.fullmatch(segment)) is not None:
                is_ours = type(text) is str  # else it came from outside the file, and is not shown
                what, meant = (segment, ours.format(found[1])) if is_ours else (_SOME, "{name}")
                yield Diagnostic(
                    *node.position,
                    f"{path}: {what} matches only itself, letter by letter; for any one segment, "
                    f"write {meant}",
                )
                return
    if _REGEX.search(text) is not None:
        yield Diagnostic(
            *node.position,
            f"{path}: this looks like a regular expression, and matches only itself, letter by "
            "letter; write {name} for one segment, * within one, and a trailing /** for any rest",
        )


# Accounts.


def _warn_of_accounts(
    root: YamlNode, routes: list[_RouteEntry], index: PatternIndex
) -> Iterator[Diagnostic]:
    section = root.at("accounts")
    if section is None:
        return
    protected = [route for route in routes if not route.is_public]
    is_any_admitted = any(route.accounts is None for route in protected)
    admitted = frozenset[str]().union(*(route.accounts or () for route in protected))
    for name, account in section.entries().items():
        if _is_true(account.at("disabled")):
            continue
        if not is_any_admitted and admitted.isdisjoint(_callers(name, account)):
            why = "no route lets this account in" if protected else "every route is public"
            advice = "name it in the accounts of a route, or remove it"
            yield Diagnostic(*section.keys[name], f"accounts.{name}: {why}; {advice}")
            continue
        yield from _warn_of_paths(name, account, routes, index)


def _callers(name: str, account: YamlNode) -> frozenset[str]:
    """Return the names by which a route may let an account in: its own, and its groups'."""
    groups = account.at("groups")
    listed = groups.items() if groups is not None else []
    return frozenset((name, *(f"@{group.value}" for group in listed)))


def _warn_of_paths(
    name: str, account: YamlNode, routes: list[_RouteEntry], index: PatternIndex
) -> Iterator[Diagnostic]:
    paths, callers = account.at("paths"), _callers(name, account)
    for number, node in enumerate(paths.items() if paths is not None else []):
        text = node.text()
        if text is None:
            continue
        where = f"accounts.{name}.paths[{number}]"
        yield from _warn_of_spelling(node, where)
        if index.visited <= _MOST_VISITED and not index.has_path_with(
            shape_of(text), lambda at: routes[at].admits(callers)
        ):
            yield Diagnostic(
                *node.position,
                f"{where}: no route that lets {name} in matches such a path; correct it, or add a "
                "route",
            )


# Upstreams.


def _warn_of_unused_upstreams(root: YamlNode, routes: list[_RouteEntry]) -> Iterator[Diagnostic]:
    section = root.at("upstreams")
    if section is None or len(section.keys) < 2:
        return  # the only one is that of every route
    named = {node.text() for route in routes if (node := route.node.at("upstream")) is not None}
    for name, position in section.keys.items():
        if name not in named:
            text = f"upstreams.{name}: no route uses {shown(name)}; name it in one, or remove it"
            yield Diagnostic(*position, text)
