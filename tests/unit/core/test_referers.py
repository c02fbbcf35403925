"""What may be a credential to anybody who reads the address of a page leaves it; the rest stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.referers import RefererRules

RULES = RefererRules(("access_token", "token", "jwt_token"))
T = "sct_0123456789abcdefghij"

REDACTED = {
    "alone": (f"http://x/a?token={T}", "http://x/a"),
    "first of several": (f"http://x/a?token={T}&b=%2F&c", "http://x/a?b=%2F&c"),
    "last of several": (f"http://x/a?b=%2F&token={T}", "http://x/a?b=%2F"),
    "in the middle": (f"http://x/a?b&jwt_token={T}&c", "http://x/a?b&c"),
    "several": (f"http://x/a?token={T}&access_token={T}&c&token={T}", "http://x/a?c"),
    "all there is": (f"http://x/a?token={T}&access_token={T}", "http://x/a"),
    "without a value": ("http://x/a?token&b", "http://x/a?b"),
    "behind a second question mark": (f"http://x/a?b=1?token={T}", "http://x/a?b=1"),
    "behind a third": (f"http://x/a??b=1?token={T}&c", "http://x/a??b=1?c"),
    "behind two in a row": (f"http://x/a??token={T}", "http://x/a?"),
    "before a second one": (f"http://x/a?token={T}?b=1&c", "http://x/a?c"),
    "in a fragment": (f"http://x/a#access_token={T}&state=1", "http://x/a#state=1"),
    "in a query in a fragment": (f"http://x/#/a?b=1&token={T}", "http://x/#/a?b=1"),
    "before a fragment": (f"http://x/a?token={T}#f", "http://x/a#f"),
    "in both": (f"http://x/a?token={T}#token={T}", "http://x/a"),
    "behind a semicolon": (f"http://x/a?b=1;token={T}&c", "http://x/a?b=1&c"),
    "a parameter of the path": (f"http://x/a;token={T}?c", "http://x/a"),
    "encoded": (f"http://x/a?%74oken={T}&b", "http://x/a?b"),
    "encoded all over": (f"http://x/a?b&%74%6f%6B%65%6E={T}", "http://x/a?b"),
    "in capitals": (f"http://x/a?TOKEN={T}&b", "http://x/a?b"),
    "in capitals, encoded": (f"http://x/a?%54oKEN={T}&b", "http://x/a?b"),
    "an encoded underscore": (f"http://x/a?Access%5Ftoken={T}", "http://x/a"),
    "an encoded equals sign": (f"http://x/a?token%3D{T}&b", "http://x/a?b"),
    "in an encoded address": (
        f"http://x/in?next=%2Fa%3Ftoken%3D{T}%26c&b=1",
        "http://x/in?next=%2Fa&b=1",
    ),
    "later in an encoded address": (
        f"/in?next=%2fa%3fb%3d1%26token%3d{T}",
        "/in?next=%2fa%3fb%3d1",
    ),
    "in an encoded fragment": (f"/in?next=%2Fa%23token={T}", "/in?next=%2Fa"),
    "without a scheme": (f"x/a?token={T}&b", "x/a?b"),
    "a path": (f"/a?token={T}", "/a"),
    "a query alone": (f"?token={T}", ""),
    "a value with marks": (f"/a?token={T};{T}?{T}=&b", "/a?b"),
}
KEPT = [
    *("", "/", "http://x/a", "http://x/a?", "http://x/a?#", "http://x/token=1", "token=1"),
    *("http://x/a?b=%2F+&c#f?b=1", "http://x/a?tokens=1", "http://x/a?xtoken=1", "/a?b=token=1"),
    *(
        "/a?token[]=1",
        "/a?access-token=1",
        "/a?b=%74oken=1",
        "/a?b%3Dtoken%3D1",
        "/token?a",
        "\xff?\xff",
    ),
    *("/a?b=%3Ftokens%3D1", "/a&&;?#"),
]


@pytest.mark.parametrize("name", REDACTED)
def test_a_credential_leaves_an_address_in_any_spelling(name: str) -> None:
    address, rest = REDACTED[name]
    assert RULES.redact(address) == rest


@pytest.mark.parametrize("address", KEPT)
def test_an_address_without_a_credential_stays_as_it_came(address: str) -> None:
    assert RULES.redact(address) is address


PIECES = st.sampled_from(
    [
        *"?&;#=%/ab",
        "token",
        "Token=",
        f"token={T}",
        "%3Ftoken%3D",
        "%26",
        "access_token=",
        "%74oken=x",
    ]
)


@given(st.lists(PIECES, max_size=12))
def test_nothing_is_left_that_would_be_taken_out(pieces: list[str]) -> None:
    address = "".join(pieces)
    once = RULES.redact(address)
    assert len(once) <= len(address)
    assert RULES.redact(once) == once


@given(st.text(max_size=40))
def test_any_text_at_all_is_read_without_an_error(text: str) -> None:
    assert len(RULES.redact(text)) <= len(text)


def test_a_name_beyond_ascii_is_found_in_bytes_as_they_come() -> None:
    rules = RefererRules(("clé",))
    assert rules.redact("/a?cl\xc3\xa9=1&b") == "/a?b"
    assert rules.redact("/a?CL%c3%89=1&b") == "/a?b"


def test_without_names_every_address_stays() -> None:
    address = f"/a?token={T}"
    assert RefererRules(()).redact(address) is address
