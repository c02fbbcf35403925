"""Header names: read by their exact spelling, stripped by their canonical form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.headers import (
    NO_OPTIONS,
    HeaderClass,
    HeaderRules,
    Scan,
    canonical,
    is_sane_request_id,
    read_connection,
)

RULES = HeaderRules(["X-Account", "X-Token_Id"], ["access_token", "Jwt_Token"])
TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcXYZ"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["Host", "HOST", "hOsT"], HeaderClass.HOST),
        (["Content-Length", "content-length"], HeaderClass.CONTENT_LENGTH),
        (["Transfer-Encoding"], HeaderClass.TRANSFER_ENCODING),
        (["Expect"], HeaderClass.EXPECT),
        (["X-Request-ID"], HeaderClass.REQUEST_ID),
        (["Referer"], HeaderClass.REFERER),
        (["Authorization", "AUTHORIZATION"], HeaderClass.AUTHORIZATION),
        (["access_token", "Access_Token", "JWT_TOKEN"], HeaderClass.CREDENTIAL),
        (["Connection"], HeaderClass.CONNECTION),
        (["Upgrade"], HeaderClass.UPGRADE),
        (["X-Forwarded-For"], HeaderClass.FORWARDED_FOR),
        (["X-Forwarded-Proto"], HeaderClass.FORWARDED_PROTO),
        (["X-Forwarded-Host"], HeaderClass.FORWARDED_HOST),
        (["Forwarded", "FORWARDED"], HeaderClass.FORWARDED),
        (["X-Real-IP", "X-Forwarded-Port", "X-Forwarded-Prefix"], HeaderClass.FORWARDING),
        (
            ["Cookie", "X-Accounts", "X-Account-", "Account", "Accept", "_", "Via"],
            HeaderClass.OTHER,
        ),
        (["Sec-WebSocket-Key", "Token", "XAccount", "X--Account"], HeaderClass.OTHER),
    ],
)
def test_names_that_are_read_are_known_in_any_case(names: list[str], kind: HeaderClass) -> None:
    assert [RULES.classes[name.encode()] for name in names] == [kind] * len(names)


@pytest.mark.parametrize(
    "name",
    [
        *[
            "X-Account",
            "x-account",
            "X_Account",
            "X.Account",
            "X!Account",
            "X~Account",
            "x|ACCOUNT",
        ],
        *["X-Token-Id", "x_token_id", "X-Token_Id"],
        *["access-token", "Access.Token", "jwt-token"],
        *["Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization"],
        *["Proxy_Authorization", "TE", "Trailer", "HTTP2-Settings"],
        *["Transfer_Encoding", "Content_Length", "Content.Length", "X_Request_Id"],
        *["Proxy", "Remote-User", "REMOTE_USER", "X-Remote-User", "X-Original-URL"],
        *["X_Original_URL", "X-Rewrite-URL", "X-Original-Method", "X-Original-URI"],
        *["SCRIPT_NAME", "PATH_INFO", "Script-Name", "X-Forwarded-Uri", "X-Forwarded-Method"],
        *["X_Forwarded_For", "X.Forwarded-For", "X-Forwarded_Port", "X_Real_IP"],
    ],
)
def test_what_could_pass_for_something_it_is_not_is_stripped(name: str) -> None:
    assert RULES.classes[name.encode()] == HeaderClass.STRIPPED


@given(st.text(alphabet=TOKEN_CHARACTERS, min_size=1, max_size=1), st.booleans())
def test_no_spelling_of_an_identity_header_passes(separator: str, is_upper: bool) -> None:
    name = f"X{separator}Account"
    if not separator.isalnum():
        kind = RULES.classes[(name.upper() if is_upper else name).encode()]
        assert kind == HeaderClass.STRIPPED


def test_a_scan_gives_every_kinds_values_in_their_order() -> None:
    scan = RULES.scan(
        [
            (b"Host", b"a"),
            (b"authorization", b"Bearer x"),
            (b"Accept", b"*/*"),
            (b"access_token", b"1"),
            (b"AUTHORIZATION", b"Basic y"),
            (b"jwt_token", b"2"),
            (b"access-token", b"3"),
            (b"X-Forwarded-For", b"1.1.1.1"),
            (b"Content-Length", b"3"),
        ]
    )
    assert scan.host == (b"a",)
    assert scan.authorization == (b"Bearer x", b"Basic y")
    assert scan.credentials == (b"1", b"2")
    assert scan.stripped == (b"3",)
    assert scan.forwarded_for == (b"1.1.1.1",)
    assert scan.content_length == (b"3",)
    assert scan.options is NO_OPTIONS
    assert (scan.expect, scan.upgrade, scan.transfer_encoding) == ((), (), ())


def test_a_scan_never_shows_a_value() -> None:
    scan = RULES.scan([(b"Authorization", b"Bearer secret"), (b"Host", b"secret")])
    assert repr(scan) == "Scan(host, authorization)"


def test_scans_do_not_share_what_they_found() -> None:
    RULES.scan([(b"Host", b"a")])
    assert RULES.scan([]).host == ()


@pytest.mark.parametrize(
    ("values", "close", "keep_alive", "upgrade", "named"),
    [
        ([], False, False, False, set()),
        (["close"], True, False, False, set()),
        (["Keep-Alive"], False, True, False, set()),
        (["keep-alive, Upgrade"], False, True, True, set()),
        (["X-Account"], False, False, False, {"x-account"}),
        (["close", "X_Account ,\tx.other"], True, False, False, {"x-account", "x-other"}),
        ([", ,,"], False, False, False, set()),
        (["Host, Content-Length, Transfer-Encoding, expect"], False, False, False, set()),
        (["access_token"], False, False, False, {"access-token"}),
        (["closed, keep_alive"], False, False, False, {"closed"}),
    ],
)
def test_connection_is_a_list_in_any_case_over_several_lines(
    values: list[str], close: bool, keep_alive: bool, upgrade: bool, named: set[str]
) -> None:
    options = read_connection(tuple(value.encode() for value in values))
    assert options == (close, keep_alive, upgrade, frozenset(named))


def test_connection_lines_are_read_together() -> None:
    scan = RULES.scan([(b"Connection", b"close"), (b"connection", b"X-A")])
    assert scan.options == (True, False, False, frozenset({"x-a"}))


def test_any_header_name_at_all_has_a_canonical_form() -> None:
    assert canonical(b"X_Account.2\xff") == "x-account-2-"


def test_memory_for_names_is_bounded() -> None:
    rules = HeaderRules(["X-Account"], [])
    for number in range(10_000):
        rules.scan([(b"X-%d" % number, b"")])
    rules.scan([(b"X" * 1000, b"")])
    assert len(rules.classes) <= 4096
    assert b"X" * 1000 not in rules.classes
    assert rules.classes[b"X_Account"] == HeaderClass.STRIPPED


@pytest.mark.parametrize(
    ("value", "is_sane"),
    [
        (b"a", True),
        (b"0af7651916cd43dd-8448:eb/21=1+c@h.1~2_3", True),
        (b"x" * 128, True),
        (b"", False),
        (b"x" * 129, False),
        (b"a b", False),
        (b"a\n", False),
        (b'"', False),
        (b"{}", False),
        (b"\xc3\xa9", False),
    ],
)
def test_a_request_id_is_kept_only_if_sane(value: bytes, is_sane: bool) -> None:
    assert is_sane_request_id(value) is is_sane


def test_every_class_of_header_has_a_number_and_a_field_of_its_own() -> None:
    """Two classes with one number would be one class; a scan has the fields in their order."""
    assert len(HeaderClass.__members__) == len(HeaderClass) == len(Scan._fields)
    assert sorted(HeaderClass) == [*range(len(Scan._fields))]
