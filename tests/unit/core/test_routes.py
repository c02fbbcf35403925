"""Routes: the first that names path and method wins, and nothing else passes."""

from __future__ import annotations

import pytest

from sidecar.core.model import ALL_FORMS, Denial
from sidecar.core.patterns import compile_pattern
from sidecar.core.routes import Route, RouteTable


def route(path: str, *methods: str, name: str | None = None) -> Route:
    return Route(
        pattern=compile_pattern(path),
        methods=frozenset(methods) or None,
        upstream="listener",
        forms=ALL_FORMS,
        accounts=None,
        public=False,
        name=name or path,
    )


TABLE = RouteTable(
    [
        route("/l/special", "GET"),
        route("/l/{id}", "GET", "POST"),
        route("/l/{id}", "DELETE", name="delete"),
        route("/status"),
        route("/files/**", "GET"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/l/special", "/l/special"),
        ("POST", "/l/special", "/l/{id}"),
        ("DELETE", "/l/special", "delete"),
        ("GET", "/l/a", "/l/{id}"),
        ("BREW", "/status", "/status"),
        ("GET", "/files", "/files/**"),
        ("GET", "/files/a/b", "/files/**"),
    ],
)
def test_the_first_route_that_names_path_and_method_wins(method: str, path: str, name: str) -> None:
    found = TABLE.match(method, path)
    assert isinstance(found, Route)
    assert found.name == name


@pytest.mark.parametrize("path", ["/", "/l", "/l/", "/l/a/b", "//status", "/STATUS", "/status/"])
def test_a_path_that_no_route_names_is_no_route(path: str) -> None:
    found = TABLE.match("GET", path)
    assert isinstance(found, Denial)
    assert (found.code, found.allow) == ("no_route", ())


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/l/a", ("DELETE", "GET", "POST")),
        ("PUT", "/l/special", ("DELETE", "GET", "POST")),
        ("POST", "/files/x", ("GET",)),
        ("HEAD", "/files/x", ("GET",)),
        ("OPTIONS", "/files/x", ("GET",)),
        ("get", "/files/x", ("GET",)),
    ],
)
def test_a_known_path_with_another_method_lists_all_allowed_methods(
    method: str, path: str, allow: tuple[str, ...]
) -> None:
    found = TABLE.match(method, path)
    assert isinstance(found, Denial)
    assert (found.code, found.allow) == ("method_not_allowed", allow)


def test_a_table_without_routes_lets_nothing_pass() -> None:
    assert isinstance(RouteTable([]).match("GET", "/"), Denial)
