"""A stored record is exactly what was written, or it is nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.account_names import ACCOUNT_NAME
from sidecar.core.errors import UsageError
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.store.record import MAX_RECORD_BYTES, decode, encode

DIGEST = "0123456789abcdef" * 4
GOOD = TokenRecord(
    id="k3j9x2qpvm0abc",
    account="acme",
    name="Shop 1",
    kind=TokenKind.ACCESS,
    digest=DIGEST,
    created_at=1_800_000_000.0,
    expires_at=1_800_086_400.0,
    paths=("/v1/a*",),
)

ARRAY = b'[1,"k3j9x2qpvm0abc","acme","Shop 1","a",1800000000,1800086400,["/v1/a*"]]'
START = b"a" + (1_800_000_000).to_bytes(4, "big") + (1).to_bytes(2, "big")
LINE = START + b"k3j9x2qpvm0abc\tacme\tShop 1\t/v1/a*\n"

ids = st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True)
accounts = st.from_regex(ACCOUNT_NAME, fullmatch=True)
visible = st.characters(exclude_categories=["C", "Z"])
times = (
    st.integers(0, 2**32 + 1).map(float)
    | st.integers(0, 10**11).map(float)
    | st.floats(min_value=0, max_value=1e11)
)
records = st.builds(
    TokenRecord,
    id=ids,
    account=accounts,
    name=st.text(visible, min_size=1, max_size=100).filter(str.isprintable),
    kind=st.sampled_from(TokenKind),
    digest=st.just(DIGEST),
    created_at=times,
    expires_at=st.none() | times,
    paths=st.lists(st.from_regex(r"/[!-~]{0,40}", fullmatch=True), max_size=8).map(tuple),
    denied_at=st.just(""),
)
records |= st.builds(
    lambda record, days: record.replace(
        created_at=float(days), expires_at=float(days + 86400 * days) if days else None
    ),
    records,
    st.integers(0, 70_000),
)
records |= st.builds(TokenRecord.ending_by, records, times).filter(
    lambda record: 0 < (record.expires_at or 0.0) <= (record.granted_until or 0.0)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(records)
def test_what_is_written_is_read_back_the_same(record: TokenRecord) -> None:
    assert decode(DIGEST, encode(record)) == record


def test_a_record_is_a_line_and_small() -> None:
    assert encode(GOOD) == LINE
    assert len(encode(GOOD.replace(name="n" * 20, account="a" * 14, paths=()))) == 58


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(GOOD, id="of a day"),
        pytest.param(GOOD.replace(expires_at=None), id="unlimited"),
        pytest.param(GOOD.replace(id="imported-long-ago"), id="of a foreign id"),
        pytest.param(GOOD.replace(expires_at=1_800_050_000.0), id="of no whole days"),
    ],
)
def test_an_early_end_leaves_the_granted_lifetime_as_it_was(record: TokenRecord) -> None:
    early = record.ending_by(1_800_003_600.9)
    assert decode(DIGEST, encode(early)) == early
    assert early.expires_at == 1_800_003_600
    assert early.lifetime_seconds == record.lifetime_seconds
    assert len(encode(early)) - len(encode(record)) <= 48


@pytest.mark.parametrize(
    "written",
    [
        ARRAY[:-1] + b",1800086399]",
        ARRAY[:-1] + b',"1800086400"]',
        ARRAY[:-1] + b",true]",
        ARRAY[:-1] + b",NaN]",
        ARRAY[:-1] + b",-1]",
        ARRAY[:-1] + b",[]]",
        ARRAY[:-1] + b",null,null]",
        ARRAY.replace(b"1800086400", b"null")[:-1] + b",1800086400]",
    ],
)
def test_an_odd_granted_end_makes_it_no_record(written: bytes) -> None:
    assert decode(DIGEST, ARRAY[:-1] + b",1800086401]") is not None
    assert decode(DIGEST, written) is None


@pytest.mark.parametrize(
    "token_id", ["k3j9x2qp", "k3j9x2qpvm0ab-", "K3J9X2QPVM0ABC", "________", "i" * 64]
)
def test_a_line_holds_any_id(token_id: str) -> None:
    record = GOOD.replace(id=token_id)
    assert encode(record) == LINE.replace(b"k3j9x2qpvm0abc", token_id.encode())
    assert decode(DIGEST, encode(record)) == record


@pytest.mark.parametrize(("kind", "letter"), [("access", b"a"), ("imported", b"i"), ("jwt", b"j")])
def test_a_line_begins_with_the_letter_of_its_kind(kind: str, letter: bytes) -> None:
    record = GOOD.replace(kind=TokenKind(kind))
    assert encode(record) == letter + LINE[1:]
    assert decode(DIGEST, encode(record)) == record


@pytest.mark.parametrize(
    ("created_at", "days"),
    [(0, 1), (0, 49_710), (2**32 - 86_401, 1), (2**32 - 1, 0), (0, 0), (1_800_000_000, 28_855)],
)
def test_a_line_holds_whole_days_up_to_the_year_2106(created_at: int, days: int) -> None:
    end = float(created_at + days * 86400) if days else None
    record = GOOD.replace(created_at=float(created_at), expires_at=end)
    assert encode(record).startswith(b"a")
    assert decode(DIGEST, encode(record)) == record


@pytest.mark.parametrize("account", ["a", "a" * 64, "A.b_c@d-e"])
def test_records_of_an_account_share_its_name(account: str) -> None:
    first, second = (decode(DIGEST, encode(GOOD.replace(account=account, id=i * 8))) for i in "xy")
    assert first is not None
    assert second is not None
    assert first.account is second.account


@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": 1_800_086_401.0},
        {"expires_at": 1_800_000_000.0},
        {"created_at": 1_800_086_400.0, "expires_at": 1_800_000_000.0},
        {"created_at": 0.0, "expires_at": 65_536 * 86400.0},
    ],
    ids=str,
)
def test_a_lifetime_that_a_line_cannot_hold_makes_it_an_array(change: dict[str, object]) -> None:
    record = GOOD.replace(**change)
    assert encode(record).startswith(b"[1,")
    assert decode(DIGEST, encode(record)) == record


@pytest.mark.parametrize(
    "times",
    [
        {"created_at": 1_800_000_000.5},
        {"expires_at": 1_800_000_000.25},
        {"expires_at": 5e9},
        {"created_at": 5e9},
        {"expires_at": 0.0},
    ],
    ids=str,
)
def test_a_time_that_a_line_cannot_hold_makes_it_an_array(times: dict[str, float]) -> None:
    record = GOOD.replace(**times)
    assert encode(record).startswith(b"[1,")
    assert decode(DIGEST, encode(record)) == record


@pytest.mark.parametrize("written", [ARRAY, LINE])
def test_a_line_and_an_array_say_the_same(written: bytes) -> None:
    assert decode(DIGEST, written) == GOOD


@given(st.sampled_from([LINE, ARRAY]), st.integers(min_value=0, max_value=100))
def test_a_truncated_record_is_none(whole: bytes, kept: int) -> None:
    assert kept >= len(whole) or decode(DIGEST, whole[:kept]) is None


@given(st.sampled_from([START, b"a"]), st.binary(max_size=200))
def test_what_reads_as_a_line_is_a_good_one(start: bytes, rest: bytes) -> None:
    found = decode(DIGEST, start + rest + b"\n")
    assert found is None or decode(DIGEST, encode(found)) == found


ODD_TEXTS = [
    LINE.replace(b"acme", b"a\r\nX-Account: b"),
    LINE.replace(b"acme", b""),
    LINE.replace(b"acme", "é".encode()),
    LINE.replace(b"acme", b"a\0"),
    LINE.replace(b"acme", b"a" * 129),
    LINE.replace(b"Shop 1", b""),
    LINE.replace(b"Shop 1", b"a\nb"),
    LINE.replace(b"Shop 1", b"\xff"),
    LINE.replace(b"Shop 1", b"\xed\xa0\x80"),
    LINE.replace(b"Shop 1", "\u202e".encode()),
    LINE.replace(b"Shop 1", b"n" * 101),
    LINE.replace(b"\t/v1/a*", b"\t"),
    LINE.replace(b"\t/v1/a*", b"\t/a\t\t/b"),
    LINE.replace(b"/v1/a*", b"/a\x7f"),
]


@pytest.mark.parametrize(
    "line",
    [
        LINE.replace(b"a", b"A", 1),
        LINE.replace(b"a", b"x", 1),
        b"2" + LINE,
        LINE.replace(b"k3j9x2qpvm0abc", b"short"),
        LINE.replace(b"k3j9x2qpvm0abc", b""),
        LINE.replace(b"k3j9x2qpvm0abc", b"i" * 65),
        LINE.replace(b"k3j9x2qpvm0abc", b"k3j9x2qpvm0ab."),
        LINE.replace(b"k3j9x2qpvm0abc", "k3j9x2qpvm0abé".encode()),
        LINE.replace(b"k3j9x2qpvm0abc", "k3j9x2qpvm0ab١".encode()),
        LINE.replace(b"k3j9x2qpvm0abc", b"k3j9x2qpvm0ab\n"),
        *ODD_TEXTS,
        START + b"k3j9x2qpvm0abc\tacme\n",
        START + b"k3j9x2qpvm0abc\n",
        START + b"\n",
        START,
        LINE[:5] + b"\n",
        LINE[:-1],
        LINE + b"\n",
        LINE + LINE,
        b"a\n",
        b"a",
    ],
    ids=repr,
)
def test_one_odd_part_of_a_line_makes_it_no_record(line: bytes) -> None:
    assert decode(DIGEST, LINE) == GOOD
    assert decode(DIGEST, line) is None


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_never_raise(value: bytes) -> None:
    decode(DIGEST, value)


@given(st.integers(0, 7), json_values)
def test_a_field_of_another_kind_makes_it_no_record_or_another_good_one(
    place: int, value: object
) -> None:
    fields = json.loads(ARRAY)
    fields[place] = value
    found = decode(DIGEST, json.dumps(fields).encode())
    assert found is None or decode(DIGEST, encode(found)) == found


# Where in the array, and what in JSON, that ``encode`` would not have written there.
ODD_FIELDS = [
    *[(0, odd) for odd in ("2", "0", "1.0", "true", '"1"', "null")],
    *[
        (1, odd)
        for odd in ('"short"', '"k3j9x2qpvm0ab\\n"', '"k3j9x2qpvm0abé"', "12345678", "null")
    ],
    *[
        (2, odd)
        for odd in ('""', '"a\\r\\nX-Account: b"', '"a\\u0000"', '"é"', '"a b"', '"a,b"', "7")
    ],
    (2, '"' + "a" * 129 + '"'),
    *[(3, odd) for odd in ('""', '"a\\n"', '"\\ud800"', '"\\u202e"', "null", "[]")],
    (3, '"' + "n" * 101 + '"'),
    *[(4, odd) for odd in ('"access"', '"A"', '""', "1", "[]", "{}", "null")],
    *[(5, odd) for odd in ("null", "true", '"1"', "-1", "NaN", "Infinity", "1e999", "1e12")],
    (5, "9" * 5000),
    *[(6, odd) for odd in ("true", '"1"', "-1", "NaN", "-Infinity", "1e12", "[]")],
    *[(7, odd) for odd in ("null", '"/a"', "{}", "[1]", "[null]", '[""]', '["/a\\n"]', '[["/a"]]')],
]


@pytest.mark.parametrize(("place", "odd"), ODD_FIELDS, ids=lambda value: str(value)[:30])
def test_one_odd_field_makes_it_no_record(place: int, odd: str) -> None:
    fields = [json.dumps(field) for field in json.loads(ARRAY)]
    assert decode(DIGEST, f"[{','.join(fields)}]".encode()) == GOOD
    fields[place] = odd
    assert decode(DIGEST, f"[{','.join(fields)}]".encode()) is None


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"[1]",
        b'"text"',
        b"\x80\x04\x95pickle",
        b"\xff\xfe[\x001\x00]\x00",
        ARRAY[:-1] + b",0]",
        ARRAY + b"x",
        ARRAY.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + ARRAY,
        b"[" * 4000,
        b"[" + b"1," * 500_000 + b"1]",
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_another_program_wrote_is_no_record(foreign: bytes) -> None:
    assert decode(DIGEST, foreign) is None


def test_a_record_is_less_than_4_kib() -> None:
    with pytest.raises(UsageError, match="4 KiB"):
        encode(GOOD.replace(paths=("/" + "a" * MAX_RECORD_BYTES,)))


@pytest.mark.parametrize(
    "odd",
    [
        {"account": "a\r\nb"},
        {"name": "\ud800"},
        {"created_at": float("nan")},
        {"expires_at": float("inf")},
        {"paths": ("",)},
    ],
    ids=str,
)
def test_what_could_not_be_read_back_is_not_written(odd: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        encode(GOOD.replace(**odd))
