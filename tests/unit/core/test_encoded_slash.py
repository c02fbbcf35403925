"""An encoded slash passes where a route lets it in, and never leads under another rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import ALL_FORMS, Denial
from sidecar.core.path_index import PathList
from sidecar.core.patterns import compile_pattern
from sidecar.core.policy import Account, judge
from sidecar.core.routes import Route, RouteMatch, RouteTable
from tests.unit.core.test_policy import RECORD


def route(path: str, *methods: str, lets_in: bool = False, public: bool = False) -> Route:
    return Route(
        pattern=compile_pattern(path),
        methods=frozenset(methods) or None,
        upstream="listener",
        forms=ALL_FORMS,
        accounts=None,
        public=public,
        name=path,
        encoded_slash=lets_in,
    )


TABLE = RouteTable(
    [
        route("/items/{id}/secret", "PUT"),
        route("/items/{id}", "GET", lets_in=True),
        route("/files/admin/**"),
        route("/files/**", lets_in=True),
        route("/a%2Fb", lets_in=True),
        route("/admin/**"),
        route("/strict/**"),
        route("/**", lets_in=True, public=True),
    ]
)


def found(path: str, method: str = "GET") -> str:
    """Return the name of the route, or the code of the denial."""
    match = TABLE.find(method, path)
    return match.route.name if isinstance(match, RouteMatch) else match.code


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/files/a%2Fb", "/files/**"),
        ("/files/a%2fb%2Fc", "/files/**"),
        ("/files/x%2F", "/files/**"),
        ("/files/%2Fx", "/files/**"),
        ("/files/a%2Fb?q=%2F", "/files/**"),
        ("/files/a%2Fb/c%20d", "/files/**"),
        ("/any%2Fthing", "/**"),
        ("/files/.a%2Fb.", "/files/**"),
    ],
)
def test_it_is_matched_within_its_segment_and_forwarded_as_sent(path: str, name: str) -> None:
    match = TABLE.find("GET", path)
    assert isinstance(match, RouteMatch)
    assert (match.route.name, match.target.path) == (name, path.partition("?")[0])


@pytest.mark.parametrize(
    "path",
    [
        # to another route, if decoded
        *["/admin%2Fx", "/%2Fadmin/x", "/%2fadmin%2fx", "/;%2Fadmin/x", "/files%2Fadmin%2Fx"],
        *["/files/admin%2Fx", "/files%2Fx", "/files/%2Fadmin/x", "/files/;v%2Fadmin/x"],
        *["/strict%2Fx", "/a/%2Fb%2F%2E", "/%2F%2Fx/admin/y"],
        # on a route that does not let it in
        *["/strict/a%2Fb", "/admin/%2F", "/admin/a%2fb"],
        # away from what a slash may stand beside
        *["/files/..%2Fx", "/files/%2F..", "/files/x%2F..%2Fy", "/files/.%2Fx", "/files/%2F."],
        *["/files/%2e%2e%2Fx", "/files/x%2F%2E%2E", "/files/x%2F..;y", "/files/x%2F..%3By"],
        # encoded over and over, and what is no slash
        *["/files/a%252Fb", "/files/a%25%32%46b", "/files/a%25252Fb", "/files/%2%46"],
        *["/files/a%5Cb", "/files/a%2F%5Cb", "/files/a%00%2F", "/files/a%255C%2F"],
        *["/files/a%2F%", "/files/a\\%2F"],
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_any_other_is_refused(path: str, method: str) -> None:
    assert found(path, method) == "unsafe_path"


IDS = RouteTable(
    [
        route("/items/{id}/secret", "PUT"),
        route("/items/{id}", "GET", lets_in=True),
        route("/items/{id}/parts/{part}", "GET", lets_in=True),
    ]
)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/items/a%2Fb", ""),
        ("/items/a%2fb%2Fc", ""),
        ("/items/%2F", ""),
        ("/items/secret%2F", ""),
        ("/items/a%2Fb/parts/c", ""),
        ("/items/a%2Fsecret", "unsafe_path"),
        ("/items/a%2Fparts%2Fb", "unsafe_path"),
        ("/items/%2F/parts/a%2Fb", ""),
        ("/items%2Fa", "unsafe_path"),
        ("/other%2Fa", "unsafe_path"),
    ],
)
def test_an_id_may_hold_one_where_no_route_names_what_it_would_be_decoded(
    path: str, code: str
) -> None:
    match = IDS.find("GET", path)
    assert (match.code if isinstance(match, Denial) else "") == code


def test_a_pattern_may_hold_one_itself() -> None:
    table = RouteTable([route("/a%2fb", lets_in=True), route("/c%2Fd")])
    assert isinstance(table.find("GET", "/a%2Fb"), RouteMatch)
    assert isinstance(table.find("GET", "/c%2Fd"), Denial)


def test_another_method_of_a_route_that_lets_it_in_is_unsafe_as_it_was() -> None:
    match = IDS.find("PUT", "/items/a%2Fb")
    assert isinstance(match, Denial)
    assert match.code == "unsafe_path"


@pytest.mark.parametrize(
    ("account_paths", "token_paths", "path", "code"),
    [
        (["/files/**"], [], "/files/a%2Fb", ""),
        (["/files/a/**"], [], "/files/a%2Fb", "unsafe_path"),
        (["/files/a*"], [], "/files/a%2Fb", "unsafe_path"),
        (["/files/a*", "/files/a*/**"], [], "/files/a%2Fb", ""),
        (["/files/{x}"], [], "/files/a%2Fb", "unsafe_path"),
        (["/other"], [], "/files/a%2Fb", "not_allowed"),
        ([], ["/files/a*"], "/files/a%2Fb", "unsafe_path"),
        ([], ["/files/a*/**"], "/files/a%2Fb", ""),
        ([], ["/files/b/**"], "/files/%2Fb/c", "unsafe_path"),
        (["/files/**"], ["/files/a/b"], "/files/a%2Fb", "unsafe_path"),
    ],
)
def test_the_paths_of_accounts_and_tokens_cover_it_either_way_or_not_at_all(
    account_paths: list[str], token_paths: list[str], path: str, code: str
) -> None:
    match = TABLE.find("GET", path)
    assert isinstance(match, RouteMatch)
    account = Account("acme", paths=PathList(map(compile_pattern, account_paths)))
    record = RECORD.replace(paths=tuple(token_paths))
    denial = judge(match.route, account, record, match.path, match.readings)
    assert (denial.code if denial else "") == code


PIECES = [
    "/",
    "%2F",
    "%2f",
    "a",
    "files",
    "admin",
    "items",
    "secret",
    ";",
    "%3B",
    "%41",
    ".",
    "%25",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "/" + "".join(pieces)))
def test_whatever_passes_falls_under_the_same_route_or_none_once_it_is_decoded(sent: str) -> None:
    match = TABLE.find("GET", sent)
    if isinstance(match, RouteMatch) and "%2" in sent.upper().replace("%25", ""):
        opened = sent.replace("%2F", "/").replace("%2f", "/")
        again = TABLE.find("GET", opened)
        assert isinstance(again, RouteMatch) or again.code == "no_route"
        assert isinstance(again, Denial) or again.route is match.route
