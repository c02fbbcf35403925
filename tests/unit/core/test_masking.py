"""Tokens in text that a caller chose are recognised, whatever else is left as it came."""

from __future__ import annotations

import base64
import random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.masking import hide_credential, hide_tokens, is_repeated
from sidecar.core.model import Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import generate

PREFIX = "sct_"
_random_bytes = random.Random(20).randbytes  # the same in each process: cases are named by it
TOKEN = generate(PREFIX, _random_bytes)
OTHER = generate("old", _random_bytes)
BARE = generate("", _random_bytes)
HEADER = base64.urlsafe_b64encode(b'{"alg":"EdDSA","typ":"JWT"}').decode().rstrip("=")
SPACED = base64.urlsafe_b64encode(b'{\n  "alg": "EdDSA"}').decode().rstrip("=")
JWT = f"{HEADER}.eyJzdWIiOiJhY21lIn0.{'s' * 86}"
SPACED_JWT = f"{SPACED}.eyJzdWIiOiJhY21lIn0.{'s' * 86}"
CUT_JWT = f"{HEADER}.eyJzdWIiOiJhY21lIiwiYSI6ImJiYmJiYmJiYmJiYmJiYmJiYiJ9"


def encode(text: str, times: int = 1) -> str:
    for _ in range(times):
        text = "".join(f"%{byte:02x}" for byte in text.encode())
    return text


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/v1/{TOKEN}", "/v1/sct_[masked]"),
        (f"/{TOKEN}/{TOKEN}/x", "/sct_[masked]/sct_[masked]/x"),
        (f"/my-{TOKEN}.json", "/my-sct_[masked].json"),
        (f"/x{TOKEN}", "/xsct_[masked]"),
        (f"/{TOKEN[:20]}", "/sct_[masked]"),
        ("/sct_short", "/sct_short"),
        (f"/{encode(TOKEN)}/a%20b", "/sct_[masked]/a%20b"),
        (f"/a%20b/{encode(TOKEN).upper()}", "/a%20b/sct_[masked]"),
        (f"/{encode(TOKEN, 2)}", "/sct_[masked]"),
        (f"/{encode(TOKEN, 3)}", "/sct_[masked]"),
        (f"/%73ct_{TOKEN[4:]}", "/sct_[masked]"),
        (f"/s%63%74%5f{TOKEN[4:]}", "/sct_[masked]"),
        (f"/{TOKEN[:30]}%{ord(TOKEN[30]):02X}{TOKEN[31:]}", "/sct_[masked]"),
        (f"/a%20{TOKEN}", "/a%20sct_[masked]"),
        (f"/{OTHER}/x", "/[masked]/x"),
        (f"/x{BARE}", "/x[masked]"),
        (f"/{BARE}x", "/[masked]x"),
        (f"/{encode(OTHER)}", "/[masked]"),
        (f"/{JWT}/x", "/[masked]/x"),
        (f"/tok={JWT}", "/tok=[masked]"),
        (f"/t-{JWT}.x", "/t-[masked].x"),
        (f"/a.b.{JWT}", "/a.b.[masked]"),
        (f"/{SPACED_JWT}", "/[masked]"),
        (f"/{CUT_JWT}", "/[masked]"),
        (f"/{encode(JWT)}", "/[masked]"),
        (f"/{JWT.replace('.', '%2e')}", "/[masked]"),
        (f"/{JWT}/{TOKEN}/{OTHER}", "/[masked]/sct_[masked]/[masked]"),
    ],
)
def test_what_looks_like_a_token_is_masked_however_it_is_encoded(path: str, shown: str) -> None:
    assert hide_tokens(path, PREFIX) == shown


@pytest.mark.parametrize(
    "path",
    [
        *["", "/", "/v1/dynamic/listener/a1", "/a%20b/%C3%A9/%E2%82%AC", "/100%25", "/a%2520b"],
        *["/a.b.c", "/jquery.min.js", "/" + "a" * 64, "/" + "a" * 200, "/" + "0" * 64 + ".js"],
        f"/{random.Random(1).randbytes(32).hex()}",
        *[f"/{'x' * 60}.{'y' * 30}.{'z' * 30}", f"/keyJ.{'y' * 60}.z", "/eyJhbGciOiJFZERTQSJ9"],
        *["/" + "a/" * 100, "/my%20scts_%41", "/%41%42%43", "/" + "%7E" * 50],
    ],
)
def test_an_ordinary_path_is_left_as_it_came(path: str) -> None:
    assert hide_tokens(path, PREFIX) is path or hide_tokens(path, PREFIX) == path


def test_without_a_prefix_a_token_is_recognised_by_its_checksum() -> None:
    assert hide_tokens(f"/{BARE}", "") == "/[masked]"
    assert hide_tokens("/v1/transactions", "") == "/v1/transactions"


SPELLINGS = st.integers(0, 3)


@given(st.data(), st.text(alphabet="ab-.~%20", max_size=5), st.text(alphabet="/-.~", max_size=3))
def test_no_way_to_encode_a_token_gets_it_into_the_log(
    data: st.DataObject, before: str, after: str
) -> None:
    spelt = "".join(
        encode(letter, times) if (times := data.draw(SPELLINGS)) else letter for letter in TOKEN
    )
    shown = hide_tokens(f"/{quote(before)}{spelt}{after}", PREFIX)
    assert TOKEN[10:20] not in shown
    assert "[masked]" in shown


@given(st.text(alphabet="aeyJ%2571/.=_-sct\xe9", max_size=200))
def test_a_text_without_a_token_is_returned_unchanged(text: str) -> None:
    shown = hide_tokens(text, "no_such_prefix")
    assert shown == text or "[masked]" in shown


@pytest.mark.parametrize(
    "piece", ["eyJ", "sct_", "a", "a.", "eyJ.", "%2573", "%73", "eyJhbGciOiJFZERTQSJ9.", "/", "a_"]
)
def test_long_paths_take_time_in_proportion(piece: str) -> None:
    """In quadratic time each of these would outlive the suite's time-out."""
    hide_tokens("/" + piece * 200_000, PREFIX)


IMPORTED = "of:the-old+system/1234567890"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/a/{IMPORTED}/b", "/a/[masked]/b"),
        (f"/a/{IMPORTED}{IMPORTED}", "/a/[masked][masked]"),
        (f"/a/{quote(IMPORTED, safe='')}/b", "/a/[masked]/b"),
        (f"/a/{encode(IMPORTED)}", "/a/[masked]"),
        (f"/a/{encode(IMPORTED, 2)}", "/a/[masked]"),
        (f"/a/{IMPORTED[:-1]}", f"/a/{IMPORTED[:-1]}"),
        ("/a", "/a"),
        ("/a%20b/and-a-lot-more-of-a-path", "/a%20b/and-a-lot-more-of-a-path"),
    ],
)
def test_a_requests_own_token_is_masked_whatever_it_looks_like(path: str, shown: str) -> None:
    assert hide_credential(path, TokenCredential(Form.HEADER, IMPORTED)) == shown


def test_a_password_is_not_looked_for_in_a_path_where_its_mask_would_tell_it() -> None:
    assert hide_credential("/v1/listener", PasswordCredential("acme", "listener")) == "/v1/listener"
    assert hide_credential("/v1", None) == "/v1"
    assert hide_credential("/v1", Denial("malformed_credentials", "")) == "/v1"


BASIC = base64.b64encode(b"acme:correct horse").decode()


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        (BASIC, True),
        (f"x{BASIC}", True),
        (BASIC.rstrip("="), True),
        ("a-correct horse-b", True),
        ("acme", False),
        ("", False),
    ],
)
def test_a_text_repeats_a_password_as_it_is_and_as_basic(text: str, is_so: bool) -> None:
    assert is_repeated(text, PasswordCredential("acme", "correct horse")) is is_so


def test_a_short_password_is_not_found_in_every_text() -> None:
    assert not is_repeated("request-1", PasswordCredential("acme", "1"))


def test_a_text_repeats_a_token() -> None:
    assert is_repeated(f"a:{IMPORTED}", TokenCredential(Form.BEARER, IMPORTED))
    assert not is_repeated(IMPORTED[:-1], TokenCredential(Form.BEARER, IMPORTED))
    assert not is_repeated(IMPORTED, None)


def test_a_token_in_basic_is_recognised_in_its_base64() -> None:
    """In both alphabets, padded or not, with its account or without."""
    token = "sct_??>>" + "t" * 40
    for account in ("", "acme"):
        credential = TokenCredential(Form.BASIC, token, account)
        for pair in {f"{token}:", f":{token}", f"{account}:{token}"}:
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                spelled = encode(pair.encode()).decode()
                for text in (spelled, spelled.rstrip("="), f"x{spelled}"):
                    assert is_repeated(text, credential)
                    assert spelled.rstrip("=") not in hide_credential(f"/a/{text}", credential)
    assert not is_repeated("c2N0Xz8/Pj50", TokenCredential(Form.BASIC, token))


def test_a_password_is_recognised_in_every_base64_that_is_read() -> None:
    credential = PasswordCredential("acme", "s\u00e9cret??>>")
    for encoding in ("utf-8", "latin-1"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            spelled = encode("acme:s\u00e9cret??>>".encode(encoding)).decode()
            assert is_repeated(spelled, credential)
            assert is_repeated(spelled.rstrip("="), credential)
