"""However a service reads a path that is let pass, it falls under the same rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import ALL_FORMS, Denial, TokenKind, TokenRecord
from sidecar.core.path_index import PathList
from sidecar.core.patterns import compile_pattern, normalise_path
from sidecar.core.policy import Account, judge
from sidecar.core.readings import other_readings
from sidecar.core.routes import Route, RouteMatch, RouteTable
from sidecar.core.targets import Target, parse_target

RECORD = TokenRecord("id", "acme", "shop", TokenKind.ACCESS, "0" * 64, 0.0, None)


def route(path: str, *methods: str) -> Route:
    pattern = compile_pattern(path)
    return Route(pattern, frozenset(methods) or None, "up", ALL_FORMS, None, False, path)


def found(table: RouteTable, path: str, method: str = "GET") -> str:
    found = table.find(method, path)
    return found.code if isinstance(found, Denial) else found.route.name


# What servers do, spelt out letter by letter: each is one reading of a path as it was sent.


def merge_slashes(path: str) -> str:
    """As nginx does with ``merge_slashes on``."""
    return "".join(
        letter for at, letter in enumerate(path) if letter != "/" or path[at - 1 : at] != "/"
    )


def take_parameters(path: str) -> str:
    """As Tomcat does: from each ``;`` to the next slash."""
    return "/".join(segment.split(";")[0] for segment in path.split("/"))


def read_as_reference(path: str) -> str:
    """As ``new URL(path, "http://host").pathname`` does: what follows two slashes is a host."""
    return "/" + path.lstrip("/").partition("/")[2] if path.startswith("//") else path


def decode(path: str) -> str:
    return normalise_path(path)


SERVERS: list[list[Callable[[str], str]]] = [
    [decode],
    [decode, merge_slashes],
    [decode, take_parameters],
    [take_parameters, decode],
    [take_parameters, decode, merge_slashes],
    [decode, merge_slashes, take_parameters],
    [decode, take_parameters, merge_slashes],
    [read_as_reference, decode],
    [read_as_reference, take_parameters, decode],
    [read_as_reference, decode, take_parameters, merge_slashes],
    [read_as_reference, merge_slashes, decode],
    [read_as_reference, take_parameters, decode, take_parameters, merge_slashes],
]


def as_served(path: str) -> Iterator[str]:
    """Yield what each kind of server makes of a path."""
    for steps in SERVERS:
        reading = path
        for step in steps:
            reading = step(reading)
        yield reading


@pytest.mark.parametrize(
    ("path", "readings"),
    [
        ("/", set()),
        ("/admin/x", set()),
        ("/a:b,c=d!/e.f", set()),
        ("//admin", {"/admin", "/"}),
        ("///a//b", {"/a/b", "//b", "/b"}),
        ("/a//b", {"/a/b"}),
        ("/a/", set()),
        ("/a//", {"/a/"}),
        ("/admin;x", {"/admin"}),
        ("/admin;x/y", {"/admin/y"}),
        ("/admin;x;y=1;/z;", {"/admin/z"}),
        ("/;/admin", {"//admin", "/admin"}),
        ("/a;x//b", {"/a//b", "/a;x/b", "/a/b"}),
        ("//x;y/admin", {"/x;y/admin", "//x/admin", "/x/admin", "/admin"}),
        ("/admin%3Bx", {"/admin"}),
        ("/admin%3bx/y", {"/admin/y"}),
        ("/a%3Bb;c", {"/a", "/a;b"}),
        ("/%3b", {"/"}),
    ],
)
def test_the_other_readings_of_a_path(path: str, readings: set[str]) -> None:
    told = other_readings(path, normalise_path(path))
    assert {*told} == readings
    assert len(told) == len(readings)


PATHS = st.lists(
    st.sampled_from(["/", "//", "a", "b", ";", ";x", "%3b", "%3B", "%61", "."]), max_size=9
).map(lambda parts: "/" + "".join(parts))


@pytest.mark.parametrize("length", range(7))
def test_no_kind_of_server_reads_a_path_in_a_way_that_is_not_looked_at(length: int) -> None:
    for parts in product(("/", "a", ";", "%3B"), repeat=length):
        path = "/" + "".join(parts)
        sent = normalise_path(path)
        assert {*as_served(path)} <= {sent, *other_readings(path, sent)}


TABLE = RouteTable([route("/admin"), route("/admin/**"), route("/v/{id}", "GET"), route("/**")])


@pytest.mark.parametrize("path", ["//admin", "///admin", "//admin/x", "/admin;x", "/admin;x/y",
    "/admin;a/x", "/;/admin", "/;x/admin/y", "/admin%3Bx", "//x/admin",
    "/v;1/a", "/v//a", "//v/a", "/;/v/a", "/v/;a"])  # fmt: skip
def test_a_path_that_falls_under_another_route_when_read_otherwise_is_unsafe(path: str) -> None:
    assert found(TABLE, path) == "unsafe_path"
    assert found(TABLE, path + "?x=//y;z") == "unsafe_path"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a//b", "/**"),
        ("//b", "/**"),
        ("/a;v=1/b;w", "/**"),
        ("/admin/a//b;c", "/admin/**"),
        ("/v/a;x=1", "/v/{id}"),
        ("/x?a=//admin", "/**"),
        ("/x?;/admin", "/**"),
    ],
)
def test_a_path_that_falls_under_one_route_in_every_reading_passes(path: str, name: str) -> None:
    assert found(TABLE, path) == name
    assert found(TABLE, path) == name, "and does so when it is remembered"


@pytest.mark.parametrize("path", ["/admin/", "/Admin", "/admin.", "/admin%20", "/x/admin"])
def test_what_no_server_takes_for_another_path_falls_where_the_patterns_say(path: str) -> None:
    assert found(TABLE, path) == ("/admin/**" if path == "/admin/" else "/**")


def test_a_path_without_a_route_is_no_route_however_it_is_read() -> None:
    table = RouteTable([route("/status")])
    assert found(table, "//status") == "no_route"
    assert found(table, "/status;x") == "no_route"


def test_a_path_that_no_route_names_when_read_otherwise_is_unsafe() -> None:
    table = RouteTable([route("/l/{a}/x"), route("/l/*/y")])
    assert found(table, "/l//y") == "unsafe_path"
    assert found(table, "/l/;/x") == "unsafe_path"


def test_a_reading_under_another_method_is_another_route() -> None:
    table = RouteTable([route("/a", "POST"), route("/**")])
    assert found(table, "//a", "GET") == "/**"
    assert found(table, "//a", "POST") == "unsafe_path"


PATTERN = st.sampled_from(["/a", "/a/**", "/{x}", "/b*", "/{x}/b", "/", "/*/a", "/a;x", "//**"])
PATTERNS = st.lists(PATTERN, max_size=3)


@given(PATHS, PATTERNS, PATTERNS, PATTERNS)
def test_what_passes_falls_under_the_same_rules_however_it_is_served(
    path: str, routes: list[str], account_paths: list[str], token_paths: list[str]
) -> None:
    table = RouteTable([*map(route, routes), route("/**", "GET")])
    found = table.find("GET", path)
    account = Account("acme", paths=PathList(map(compile_pattern, account_paths)))
    record = RECORD.replace(paths=tuple(token_paths))
    if isinstance(found, Denial):
        return
    if judge(found.route, account, record, found.path, found.readings) is not None:
        return
    for served in as_served(path):
        assert table.match("GET", served) is found.route
        assert judge(found.route, account, record, served) is None


@given(PATHS, PATTERNS)
def test_what_is_refused_as_unsafe_does_fall_under_different_rules(
    path: str, routes: list[str]
) -> None:
    """So that no harmless path is refused."""
    table = RouteTable([*map(route, routes), route("/**", "GET")])
    target = parse_target("GET", path)
    if isinstance(target, Target) and isinstance(table.find("GET", path), Denial):
        sent = normalise_path(path)
        every = {sent, *other_readings(path, sent)}
        assert len({table.match("GET", reading) for reading in every}) > 1


@pytest.mark.parametrize("path", ["/" * 40_000, "/;" * 20_000, "//a;b" * 8_000, "/a%3b;" * 7_000])
def test_however_long_a_path_there_are_few_readings_of_it(path: str) -> None:
    sent = normalise_path(path)
    told = other_readings(path, sent)
    assert len(told) <= 20
    assert all(len(reading) <= len(sent) for reading in told)


def test_a_place_is_remembered_with_its_readings() -> None:
    table = RouteTable([route("/**")])
    found = table.find("GET", "/a;x")
    assert isinstance(found, RouteMatch)
    assert found.readings == ("/a",)
    assert table.find("GET", "/a;x") is found
