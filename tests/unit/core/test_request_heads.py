"""Request heads: what goes in and what comes out, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.headers import HeaderRules, PasswordFields, canonical
from sidecar.core.referers import RefererRules
from sidecar.core.request_heads import Downstream, RequestHeads, encode_token_name, identity_lines
from sidecar.core.trusted_proxies import TrustedProxies

T = "sct_" + "t" * 60
PAIR = PasswordFields("username", "password")
REFERERS = RefererRules(("access_token", "token"))
RULES = HeaderRules(["X-Account"], ["access_token"], PAIR)
PROXIES = TrustedProxies([ip_network("10.0.0.0/8")], trusts_unix=True)
STRANGER = Downstream("9.9.9.9", b"http")
FRIEND = Downstream("10.0.0.1", b"http", PROXIES)
IDENTITY = identity_lines([(b"X-Account", b"acme")])
HEADS = RequestHeads(RULES, REFERERS.redact)
FORWARDING_HEADS = RequestHeads(RULES, REFERERS.redact, keeps_credentials=True)
REPLACING_HEADS = RequestHeads(RULES, REFERERS.redact, authority=b"internal:8080")


def build(  # noqa: PLR0913 - what each head varies in, with what it is in most
    *lines: str,
    heads: RequestHeads = HEADS,
    downstream: Downstream = STRANGER,
    request_id: str = "made",
    host: str = "shop",
    traceparent: str = "",
    identity: bytes = IDENTITY,
    is_http_10: bool = False,
    is_websocket: bool = False,
) -> list[str]:
    """Return the lines that stand after the request line."""
    headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, _, value in (line.partition(": ") for line in lines)
    ]
    scan = RULES.scan(headers)
    kept_lines = heads.keep(
        headers,
        scan,
        is_trusted=downstream.is_trusted,
        host=host.encode(),
        request_id=request_id.encode(),
        traceparent=traceparent.encode(),
    )
    head = heads.build(
        b"GET",
        b"/a?b=%2F",
        kept_lines,
        scan,
        downstream=downstream,
        host=host.encode(),
        request_id=request_id.encode(),
        traceparent=traceparent.encode(),
        identity=identity,
        is_http_10=is_http_10,
        is_websocket=is_websocket,
    ).decode("latin-1")
    assert head.startswith("GET /a?b=%2F HTTP/1.1\r\n")
    assert head.endswith("\r\n\r\n")
    return head[:-4].split("\r\n")[1:]


OURS = [
    "X-Request-Id: made",
    "X-Forwarded-For: 9.9.9.9",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Host: shop",
    "Via: 1.1 sidecar",
    "X-Account: acme",
]


def kept(*lines: str, heads: RequestHeads = HEADS, downstream: Downstream = STRANGER) -> list[str]:
    """Return what stays of the client's lines, the host (first) and our own lines aside."""
    result = build("Host: shop", *lines, heads=heads, downstream=downstream)
    return result[1 : len(result) - len(OURS)]


def test_the_whole_head_of_a_plain_request() -> None:
    assert build("Host: shop", f"Authorization: Bearer {T}", "Accept: */*") == [
        "Host: shop",
        "Accept: */*",
        *OURS,
    ]


def test_what_stays_keeps_order_case_duplicates_and_bytes() -> None:
    lines = ["aCCept: a", "Cookie: x=1", "X-Empty: ", "cookie: y=2", "X-Ö: \xff\t é", "Accept: a"]
    assert kept(*lines) == lines
    assert kept("Content-Length: 3", "Expect: 100-continue", "Via: 1.0 fred") == [
        "Content-Length: 3",
        "Expect: 100-continue",
        "Via: 1.0 fred",
    ]


@pytest.mark.parametrize(
    "line",
    [
        *["X-Account: admin", "x-ACCOUNT: admin", "X_Account: admin", "X.Account: admin"],
        *["X!Account: admin", "X~Account: admin", "REMOTE_USER: admin", "Remote-User: admin"],
        *["X-Original-URL: /admin", "X-Rewrite-URL: /admin", "Proxy: evil", "SCRIPT_NAME: /x"],
        *[f"Authorization: Bearer {T}", "Authorization: Digest x", f"access_token: {T}"],
        *[f"access-token: {T}", f"Access.Token: {T}", f"Proxy-Authorization: Bearer {T}"],
        *["Keep-Alive: 1", "Proxy-Connection: close", "TE: trailers", "Trailer: X-Account"],
        *["Upgrade: foo", "Upgrade: websocket", "HTTP2-Settings: x", "Connection: close"],
        *["Transfer_Encoding: chunked", "Content_Length: 9"],
        *["X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil"],
        *["X-Forwarded-Port: 1", "X_Forwarded_For: 1.1.1.1", "Forwarded: for=1.1.1.1"],
        *["X-Real-IP: 1.1.1.1", "X-Forwarded-Uri: /?token=x"],
    ],
)
def test_what_only_the_sidecar_may_say_is_stripped(line: str) -> None:
    assert kept("A: 1", line, line, "B: 2") == ["A: 1", "B: 2"]


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPAN = "00-0af7651916cd43dd8448eb211c80319c-aaaaaaaaaaaaaaaa-01"
OTHER = "00-11111111111111111111111111111111-aaaaaaaaaaaaaaaa-01"


@pytest.mark.parametrize(
    ("sent", "told", "wanted"),
    [
        ([f"Traceparent: {TRACE}", "TraceState: a=1"], TRACE, None),
        ([f"traceparent: {TRACE}", "tracestate: a=1"], SPAN, ["tracestate: a=1"]),
        ([f"traceparent: {TRACE}", "tracestate: A=1"], TRACE, [f"traceparent: {TRACE}"]),
        ([f"traceparent: {TRACE}", "tracestate: a=1"], OTHER, []),
        (["traceparent: junk", "tracestate: a=1"], OTHER, []),
        (["traceparent: ", "tracestate: a=1"], OTHER, []),
        (["tracestate: a=1"], OTHER, []),
        (["tracestate: a=1"], "", []),
        ([f"traceparent: {TRACE}", f"traceparent: {TRACE}"], OTHER, []),
    ],
)
def test_the_trace_is_sent_once_and_a_tracestate_continues_only_with_its_own_trace(
    sent: list[str], told: str, wanted: list[str] | None
) -> None:
    lines = build("Host: shop", *sent, "A: 1", traceparent=told)
    wanted = sent if wanted is None else wanted
    made = [] if told == TRACE or not told else [f"traceparent: {told}"]
    assert lines == ["Host: shop", *wanted, "A: 1", OURS[0], *made, *OURS[1:]]


@pytest.mark.parametrize(
    "connection",
    [
        ["Connection: X-Secret, X-Account"],
        ["Connection: x_secret", "connection: x.account"],
        ["CONNECTION: close,\tX-SECRET ,X-Account"],
        ["Connection: access_token, X-Secret"],
        ["Connection: Host, Content-Length, X-Secret, X-Request-Id, Via"],
    ],
)
def test_what_connection_names_is_stripped_and_the_identity_and_host_stay(
    connection: list[str],
) -> None:
    lines = [*connection, "X-Secret: 1", "X_Secret: 2", "Content-Length: 0", "A: 1"]
    assert build("Host: shop", *lines) == ["Host: shop", "Content-Length: 0", "A: 1", *OURS]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["X-Account", "x_account", "X.ACCOUNT", "Connection", "A", "Via"]),
            st.sampled_from(["admin", "X-Account", "close", ""]),
        )
    ),
    st.booleans(),
)
def test_there_is_exactly_one_identity_and_it_is_ours(
    lines: list[tuple[str, str]], is_trusted: bool
) -> None:
    downstream = FRIEND if is_trusted else STRANGER
    head = build(*[f"{name}: {value}" for name, value in lines], downstream=downstream)
    names = [canonical(line.partition(": ")[0].encode()) for line in head]
    assert [head[at] for at, name in enumerate(names) if name == "x-account"] == ["X-Account: acme"]
    assert names[-1] == "x-account"


def test_without_an_identity_there_is_none() -> None:
    assert build("Host: shop", "X-Account: admin", identity=b"") == ["Host: shop", *OURS[:-1]]


def test_the_host_is_replaced_in_place_and_forwarded() -> None:
    lines = build("A: 1", "HOST: shop", heads=REPLACING_HEADS)
    assert lines[:2] == ["A: 1", "HOST: internal:8080"]
    assert "X-Forwarded-Host: shop" in lines


def test_the_host_of_an_absolute_form_replaces_the_one_sent() -> None:
    assert build("Host: other", host="shop")[0] == "Host: shop"


def test_a_missing_host_is_added() -> None:
    assert build("A: 1", is_http_10=True)[:2] == ["Host: shop", "A: 1"]
    assert build(heads=REPLACING_HEADS)[0] == "Host: internal:8080"


def test_chunked_is_declared_anew_in_its_place() -> None:
    assert kept("A: 1", "transfer-Encoding: Chunked", "B: 2") == [
        "A: 1",
        "transfer-Encoding: chunked",
        "B: 2",
    ]


def test_an_upgrade_is_declared_only_on_request() -> None:
    sent = ["Host: shop", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"]
    assert build(*sent) == ["Host: shop", *OURS]
    assert build(*sent, is_websocket=True) == [
        "Host: shop",
        *OURS[:-1],
        "Connection: Upgrade",
        "Upgrade: websocket",
        OURS[-1],
    ]


def test_via_names_the_version_that_the_client_spoke() -> None:
    assert "Via: 1.0 sidecar" in build("Host: shop", is_http_10=True)


@pytest.mark.parametrize("is_http_10", [False, True])
def test_an_upstream_may_be_told_of_no_via_of_ours_and_of_those_before_us(is_http_10: bool) -> None:
    heads = RequestHeads(RULES, lambda query: query, adds_via=False)
    without = [line for line in OURS if not line.startswith("Via")]
    assert build("Host: shop", heads=heads, is_http_10=is_http_10) == ["Host: shop", *without]
    sent = ["Host: shop", "Via: 1.0 fred", "via: 1.1 cdn"]
    assert build(*sent, heads=heads, is_http_10=is_http_10) == [*sent, *without]


def test_the_clients_request_id_stays_in_its_place_when_it_was_chosen() -> None:
    lines = build("Host: shop", "x-request-ID: theirs", "A: 1", request_id="theirs")
    assert lines == ["Host: shop", "x-request-ID: theirs", "A: 1", *OURS[1:]]


@pytest.mark.parametrize("theirs", [["not sane"], ["made", "made"], ["a", "b"]])
def test_any_other_request_id_is_replaced(theirs: list[str]) -> None:
    sent = [f"X-Request-Id: {value}" for value in theirs]
    assert build("Host: shop", *sent) == ["Host: shop", *OURS]


def test_a_trusted_peers_word_on_earlier_hops_is_kept_and_added_to() -> None:
    lines = build(
        "Host: shop",
        "X-Forwarded-For: 1.1.1.1, 2.2.2.2",
        "X-Forwarded-For: 3.3.3.3",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: outside",
        "X-Forwarded-Port: 443",
        "X_Forwarded_For: 6.6.6.6",
        "X-Real-IP: 1.1.1.1",
        downstream=FRIEND,
    )
    assert lines == [
        "Host: shop",
        "X-Forwarded-Port: 443",
        "X-Real-IP: 1.1.1.1",
        "X-Request-Id: made",
        "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: outside",
        "Via: 1.1 sidecar",
        "X-Account: acme",
    ]


def test_a_trusted_peer_without_forwarding_headers_gets_the_sidecars_own() -> None:
    assert (
        build("Host: shop", "X-Forwarded-For: ", downstream=FRIEND)[2]
        == "X-Forwarded-For: 10.0.0.1"
    )


def test_credentials_stay_where_the_upstream_is_to_get_them() -> None:
    lines = [f"Authorization: Bearer {T}", f"access_token: {T}", f"Referer: http://x/?token={T}"]
    assert kept(*lines, heads=FORWARDING_HEADS) == lines
    assert kept(f"access-token: {T}", "X-Account: x", heads=FORWARDING_HEADS) == []


@pytest.mark.parametrize(
    ("referer", "upstream_sees"),
    [
        (f"http://x/a?token={T}", "http://x/a"),
        (f"http://x/a?b=%2F&token={T}&c", "http://x/a?b=%2F&c"),
        (f"http://x/a?%74oken={T}&b=1#f", "http://x/a?b=1#f"),
        (f"http://x/a?token={T}#f", "http://x/a#f"),
        ("http://x/a?b=%2F+&c#f?b=1", "http://x/a?b=%2F+&c#f?b=1"),
        ("http://x/a?", "http://x/a?"),
        ("http://x/token=1", "http://x/token=1"),
        ("\xff?\xff=1", "\xff?\xff=1"),
        ("", ""),
    ],
)
def test_a_referer_loses_the_credentials_in_it_and_nothing_else(
    referer: str, upstream_sees: str
) -> None:
    assert kept(f"Referer: {referer}") == [f"Referer: {upstream_sees}"]


@pytest.mark.parametrize("value", ["", " ", "a\r\nX: y", "a\0", "é", "\x7f", "a\tb"])
def test_an_identity_that_could_be_read_as_something_else_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the value for X-Account can't stand in a header"):
        identity_lines([(b"X-Account", value.encode())])


def test_an_identity_may_have_several_headers_or_none() -> None:
    assert identity_lines([]) == b""
    assert identity_lines([(b"A", b"1 2"), (b"B", b"3")]) == b"A: 1 2\r\nB: 3\r\n"


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("shop 1 (a/b)", b"shop 1 (a/b)"),
        ("100%", b"100%25"),
        ("Büro", b"B%C3%BCro"),
        (" a ", b"%20a%20"),
        ("  ", b"%20%20"),
        ("a\r\nX-Account: b", b"a%0D%0AX-Account: b"),
        ("\ud800", b"?"),
    ],
)
def test_a_token_name_is_written_so_that_it_can_stand_in_a_header(
    name: str, encoded: bytes
) -> None:
    assert encode_token_name(name) == encoded


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_token_name_can_be_sent_and_decoded(name: str) -> None:
    encoded = encode_token_name(name)
    assert unquote(encoded.decode()) == name
    identity_lines([(b"X-Token-Name", encoded)])


def hops_sent(*lines: str, downstream: Downstream = FRIEND) -> dict[str, list[str]]:
    """Return what the upstream is told about earlier hops, by field."""
    told: dict[str, list[str]] = {}
    for line in build("Host: shop", *lines, downstream=downstream):
        name, _, value = line.partition(": ")
        if "forwarded" in name.lower():
            told.setdefault(name.lower().removeprefix("x-forwarded-"), []).append(value)
    return told


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (["198.51.100.9"], "198.51.100.9, 10.0.0.1"),
        (["198.51.100.9:1234"], "198.51.100.9:1234, 10.0.0.1"),
        (["198.51.100.9,"], "198.51.100.9, 10.0.0.1"),
        (["198.51.100.9 , ,"], "198.51.100.9, 10.0.0.1"),
        ([",198.51.100.9"], "198.51.100.9, 10.0.0.1"),
        (["198.51.100.9", "", ","], "198.51.100.9, 10.0.0.1"),
        ([" ", ","], "10.0.0.1"),
    ],
)
def test_the_list_of_hops_stays_a_list_when_it_is_extended(sent: list[str], told: str) -> None:
    assert hops_sent(*[f"X-Forwarded-For: {value}" for value in sent])["for"] == [told]


def test_what_forwarded_alone_says_is_told_in_both_ways_and_extended() -> None:
    sent = 'for="[2a00::5]:80";proto=https;host=keys.example.com, for=10.0.0.7;proto=http'
    assert hops_sent(f"Forwarded: {sent}") == {
        "for": ["2a00::5, 10.0.0.7, 10.0.0.1"],
        "proto": ["https"],
        "host": ["keys.example.com"],
        "forwarded": [sent, "for=10.0.0.1;proto=http"],
    }


def test_beside_x_forwarded_for_forwarded_is_extended_and_not_read() -> None:
    told = hops_sent("Forwarded: for=6.6.6.6;proto=https", "X-Forwarded-For: 198.51.100.9")
    assert told["for"] == ["198.51.100.9, 10.0.0.1"]
    assert told["proto"] == ["http"]
    assert told["forwarded"] == ["for=6.6.6.6;proto=https", "for=10.0.0.1;proto=http"]


@pytest.mark.parametrize("proto", ["gopher", '"https\r"', '"https, http"', '""', "wss"])
@pytest.mark.parametrize("host", ['"a/b"', '"a b"', '"a@b"', '""', '"a\\"b"'])
def test_only_a_scheme_and_a_host_are_taken_out_of_forwarded(proto: str, host: str) -> None:
    told = hops_sent(f"Forwarded: for=198.51.100.9;proto={proto};host={host}")
    assert (told["proto"], told["host"]) == (["http"], ["shop"])


def test_the_forwarded_of_a_peer_that_is_not_trusted_is_dropped() -> None:
    lines = ("Forwarded: for=6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")
    told = hops_sent(*lines, downstream=STRANGER)
    assert told == {"for": ["9.9.9.9"], "proto": ["http"], "host": ["shop"]}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (["X-Forwarded-For: 198.51.100.9"], "198.51.100.9"),
        (["Forwarded: for=198.51.100.9"], "198.51.100.9"),
        (["Forwarded: for=_hidden"], "unknown"),
        ([], "unknown"),
    ],
)
def test_a_trusted_peer_on_a_unix_socket_has_no_address_to_append(
    sent: list[str], told: str
) -> None:
    assert hops_sent(*sent, downstream=Downstream("unix:", b"http", PROXIES))["for"] == [told]


def test_a_stranger_on_a_unix_socket_is_unknown() -> None:
    told = hops_sent("X-Forwarded-For: 6.6.6.6", downstream=Downstream("unix:", b"http"))
    assert told["for"] == ["unknown"]


def test_an_ipv6_peer_is_quoted_in_forwarded() -> None:
    told = hops_sent("Forwarded: for=_a", downstream=Downstream("2001:db8::1", b"https", PROXIES))
    assert told["forwarded"] == ["for=_a", 'for="[2001:db8::1]";proto=https']


SECRETS = st.text("QZXJ0178_~@+/=", min_size=8, max_size=40)
PLACES = st.sampled_from(
    [
        *("Authorization: Bearer {}", "Authorization: access_token\t{}", "Authorization: {}"),
        *("Authorization: Basic  {}", "Authorization: Digest {}", "Proxy-Authorization: {}"),
        *("access_token: \t{} ", "Access-Token: {}", "access.token: {}", "password: {}"),
        *("Referer: https://shop.example/?%74oken={}&a", "password: {}\r\nusername: {}"),
        *("username: {}\r\npassword: ", "USERNAME: {}\r\nPassword: x\r\nuserName: {}"),
    ]
)
CASES = st.sampled_from([str, str.lower, str.upper, str.title])


@given(SECRETS, st.lists(PLACES, min_size=1, max_size=3), CASES)
def test_no_place_of_a_credential_lets_it_through_however_it_is_spelt(
    secret: str, places: list[str], spelt: Callable[[str], str]
) -> None:
    lines = [
        f"{spelt(name)}: {value.replace('{}', secret)}"
        for place in places
        for name, _, value in (line.partition(": ") for line in place.split("\r\n"))
    ]
    assert secret not in "".join(build(*lines, "X-Other: kept"))
    assert "X-Other: kept" in build(*lines, "X-Other: kept")


def test_a_user_name_goes_upstream_exactly_if_no_password_came() -> None:
    assert "UserName: somebody" in build("UserName: somebody")
    assert not any("somebody" in line for line in build("username: somebody", "PASSWORD: x"))
    assert not any("somebody" in line for line in build("password:  ", "username: somebody"))
    pair = ("username: somebody", "password: x")
    assert {*pair} <= {*build(*pair, heads=FORWARDING_HEADS)}
