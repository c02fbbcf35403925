"""Routes: the first that names path and method wins, and nothing else passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import ALL_FORMS, Denial
from sidecar.core.patterns import compile_pattern, normalise_path
from sidecar.core.readings import other_readings
from sidecar.core.routes import Route, RouteMatch, RouteTable


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


# As a table of patterns tried one after another finds it.

SEGMENTS = st.sampled_from(
    ["a", "b", "ab", "{x}", "{y}", "*", "a*", "*b", "a*b", "*a*", "*a*b*", ""]
)
PATTERNS = st.builds(
    lambda segments, rest: "".join(f"/{segment}" for segment in segments) + rest,
    st.lists(SEGMENTS, min_size=1, max_size=4),
    st.sampled_from(["", "/**"]),
) | st.just("/**")
METHODS = st.sets(st.sampled_from(["GET", "PUT", "POST"]), max_size=2)
ROUTES = st.lists(st.builds(lambda path, methods: route(path, *methods), PATTERNS, METHODS))
PATHS = st.lists(
    st.sampled_from(["a", "b", "ab", "aab", "ba", "", "abc;v=b", "%61", "a%2A"]), max_size=6
).map(lambda segments: "/" + "/".join(segments))


def first_of(routes: tuple[Route, ...], method: str, path: str) -> Route | None:
    fitting = [one for one in routes if one.pattern.matches(path)]
    return next((one for one in fitting if one.methods is None or method in one.methods), None)


@given(ROUTES, PATHS, st.sampled_from(["GET", "PUT", "POST", "BREW"]))
def test_the_index_finds_what_trying_each_route_in_order_finds(
    routes: list[Route], sent: str, method: str
) -> None:
    table = RouteTable(routes)
    path = normalise_path(sent)
    expected = first_of(table.routes, method, path)
    found = table.match(method, path)
    if isinstance(found, Route):
        assert found is expected
    else:
        named = [one.methods for one in routes if one.methods and one.pattern.matches(path)]
        assert expected is None
        assert found.code == ("method_not_allowed" if named else "no_route")
        assert found.allow == tuple(sorted(frozenset().union(*named)))


@given(ROUTES, PATHS)
def test_every_reading_is_judged_as_trying_each_route_in_order_would(
    routes: list[Route], sent: str
) -> None:
    table = RouteTable(routes)
    path = normalise_path(sent)
    found = table.find("GET", sent)
    every = {first_of(table.routes, "GET", one) for one in (path, *other_readings(sent, path))}
    if isinstance(found, RouteMatch):
        assert every == {found.route}
    else:
        assert (found.code == "unsafe_path") == (
            len(every) > 1 and None not in {first_of(table.routes, "GET", path)}
        )


# Routes that do not fit cost nothing.

FAMILIES: dict[str, Callable[[int], tuple[str, str, str]]] = {
    "literal": lambda i: (f"/v1/item-{i}", f"/v1/item-{i}", "/v1/nothing"),
    "name-last": lambda i: (f"/v1/t{i}/{{id}}", f"/v1/t{i}/x", "/v1/nothing/x"),
    "name-first": lambda i: (f"/{{t}}/v{i}", f"/acme/v{i}", "/acme/nothing"),
    "name-between": lambda i: (f"/a/{{t}}/b{i}/{{id}}/c", f"/a/x/b{i}/y/c", f"/a/x/b{i}/y/d"),
    "rest": lambda i: (f"/app{i}/**", f"/app{i}/x/y", "/nothing/x/y"),
    "begins": lambda i: (f"/l/a{i:04}*", f"/l/a{i:04}zz", "/l/b"),
    "ends": lambda i: (f"/l/*-{i:04}", f"/l/zz-{i:04}", "/l/zz-none"),
    "begins-and-ends": lambda i: (f"/l/a*-{i:04}", f"/l/azz-{i:04}", "/l/bzz-0000"),
    "holds": lambda i: (f"/l/*-{i:04}-*", f"/l/z-{i:04}-z", "/l/zz-none-z"),
    "deep": lambda i: (f"{'/d' * 30}/x{i}", f"{'/d' * 30}/x{i}", "/d" * 30 + "/y"),
    "crossing": lambda i: (
        (f"/{{a}}/c{i}/x", f"/b/c{i}/x", "/b/none/zz")
        if i % 2
        else (f"/b/{{c}}/y{i}", f"/b/q/y{i}", "/b/none/zz")
    ),
}


def table_of(family: str, size: int) -> RouteTable:
    return RouteTable(route(FAMILIES[family](i)[0]) for i in range(size))


def calls_of(work: Callable[[], object]) -> int:
    """Count what a piece of work calls, functions in C included."""
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
def test_a_look_up_among_5000_routes_takes_as_many_steps_as_among_20(family: str) -> None:
    few, many = table_of(family, 20), table_of(family, 5000)
    for table, size in ((few, 20), (many, 5000)):
        assert table.match("GET", FAMILIES[family](size - 1)[1]) is table.routes[-1]
    _, hit, miss = FAMILIES[family](19)
    for path in (hit, miss):
        steps = calls_of(lambda path=path: few.match("GET", path))  # type: ignore[misc]
        assert calls_of(lambda path=path: many.match("GET", path)) <= steps  # type: ignore[misc]
    last = FAMILIES[family](4999)[1]
    assert calls_of(lambda: many.match("GET", last)) <= calls_of(lambda: few.match("GET", hit)) + 4


def test_another_method_on_one_of_5000_paths_takes_as_many_steps_as_on_one_of_20() -> None:
    def table(size: int) -> RouteTable:
        return RouteTable(route(f"/p{i // 5}", f"M{i % 5}") for i in range(size))

    few, many = table(20), table(5000)
    steps = calls_of(lambda: few.match("GET", "/p3"))
    assert calls_of(lambda: many.match("GET", "/p999")) <= steps


def test_a_path_far_deeper_than_any_route_is_not_walked_to_its_end() -> None:
    table = RouteTable([route("/a/{b}/c"), route("/x/**")])
    shallow, deep = "/a/b/c/d", "/a/b/c" + "/d" * 8000
    assert isinstance(table.match("GET", deep), Denial)
    assert calls_of(lambda: table.match("GET", deep)) == calls_of(
        lambda: table.match("GET", shallow)
    )


def test_patterns_that_all_fit_are_each_looked_at_once_and_not_in_every_combination() -> None:
    """Sixteen segments that fit a name and a text each could be walked in 65 536 ways."""
    paths = ["/s" * i + "/{n}" * (16 - i) + "/end" for i in range(17)]
    table = RouteTable(map(route, paths))
    found = table.match("GET", "/s" * 16 + "/end")
    assert isinstance(found, Route)
    assert found.name == paths[0]
    nodes = 16 * 17
    assert calls_of(lambda: table.match("GET", "/s" * 16 + "/other")) <= 6 * nodes


READ_TWO_WAYS = RouteTable([route("/admin/**", "GET"), route("/**", "GET", name="all")])


@pytest.mark.parametrize(
    "path",
    [
        *("//admin/x", "/admin//x", "/a//admin/x", "//x/admin/y", "/;a/admin", "/admin;v=1/x"),
        *("/a%3Bv/admin", "//;/admin", "/%61dmin/x", "/a/x", "/", "/a/../admin", "/a%2fadmin"),
    ],
)
@pytest.mark.parametrize("start", ["http://shop.example", "HTTPS://[::1]:80", "http://h:"])
def test_an_absolute_target_is_read_in_as_many_ways_as_its_path(start: str, path: str) -> None:
    plain = READ_TWO_WAYS.find("GET", path)
    absolute = READ_TWO_WAYS.find("GET", start + path)
    if isinstance(plain, Denial):
        assert absolute == plain
    else:
        assert not isinstance(absolute, Denial)
        assert absolute[1:] == plain[1:]
