"""An exported token is a line that is read back as it was, or refused with what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import LastUse, TokenKind
from sidecar.store.port import Exported
from sidecar.store.record import encode
from sidecar.store.token_lines import (
    check_first,
    read,
    write_first,
    write_last,
    write_token,
)
from tests.contract.records import make_record

TOKEN = Exported(make_record(), LastUse(1_790_000_000.0, "203.0.113.9"))
SECRET_LOOKING = "of-the-old-system/1234567890"


def changed(**members: Any) -> bytes:
    """Return a good line with some members changed, or left out if they are ``None``-d away."""
    line = {**json.loads(write_token(TOKEN)), **members}
    return json.dumps({name: value for name, value in line.items() if value is not ...}).encode()


@given(
    name=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=100),
    paths=st.lists(st.sampled_from(["/v1/a*", '/v1/"{id}"/**', "/v1/é"]), max_size=3),
    kind=st.sampled_from(list(TokenKind)),
    created_at=st.integers(0, 10**11).map(float),
    expires_at=st.none()
    | st.integers(1, 10**11).map(float)
    | st.floats(1, 1e9).map(lambda t: round(t, 3)),
    use=st.none()
    | st.builds(LastUse, st.integers(0, 10**10).map(float), st.sampled_from(["::1", "192.0.2.7"])),
    holds_name=st.booleans(),
)
def test_what_was_written_is_read(
    name: str,
    paths: list[str],
    kind: TokenKind,
    created_at: float,
    expires_at: float | None,
    use: LastUse | None,
    holds_name: bool,
) -> None:
    record = make_record().replace(
        name=name,
        paths=tuple(paths),
        kind=kind,
        created_at=created_at,
        expires_at=expires_at,
    )
    encode(record)
    exported = Exported(record, use, holds_name)
    line = write_token(exported)
    assert line.count(b"\n") == 1
    assert read(line) == exported


@pytest.mark.parametrize("days", [0, 30])
def test_the_lifetime_of_a_token_that_ends_early_is_kept(days: int) -> None:
    record = make_record(days=days).ending_by(make_record().created_at + 3600)
    assert read(write_token(Exported(record))) == Exported(record)


@pytest.mark.parametrize("until", [1_790_000_000, "soon", "1970-01-02T00:00:00Z"])
def test_a_lifetime_that_ends_before_the_token_is_refused(until: object) -> None:
    with pytest.raises(ValueError, match=r"granted_until|times"):
        read(changed(granted_until=until))


def test_the_last_line_says_how_many_there_were() -> None:
    assert read(write_last(12)) == 12


def test_a_fraction_of_a_second_is_kept() -> None:
    record = make_record().replace(expires_at=1_790_000_000.25)
    assert b'"2026-09-21T14:13:20.250000Z"' in write_token(Exported(record))
    assert read(write_token(Exported(record))) == Exported(record)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not strict JSON"),
        (b'"text"', "not a JSON object"),
        (b'{"digest":"a","digest":"b"}', "not strict JSON"),
        (b" " * 70_000, "longer than any line"),
        (changed(digest=SECRET_LOOKING), "digest is not 64 hexadecimal digits"),
        (changed(digest="A" * 64), "digest is not 64 hexadecimal digits"),
        (changed(digest=...), "digest is missing"),
        (changed(id="x"), "not of the allowed form"),
        (changed(account="a\nb"), "not of the allowed form"),
        (changed(name=""), "not of the allowed form"),
        (changed(name="x" * 101), "not of the allowed form"),
        (changed(name="\ud800"), "half a character"),
        (changed(name=7), "name is missing or of another type"),
        (changed(kind="key"), "kind is not one of access, imported, jwt"),
        (changed(paths="/v1/a"), "paths is missing or of another type"),
        (changed(paths=[1]), "paths holds something that is not a string"),
        (changed(paths=["/" + "x" * 5000]), "under 4 KiB"),
        (changed(created_at=None), "created_at is missing"),
        (changed(created_at="2026-11-26T15:40:52"), "created_at is not a time"),
        (changed(created_at="-1"), "created_at is not a time"),
        (changed(expires_at=...), "expires_at is missing"),
        (changed(expires_at=1_790_000_000), "expires_at is missing or of another type"),
        (changed(expires_at="1969-12-31T23:59:59Z"), "not of the allowed form"),
        (changed(last_used_at="soon"), "last_used_at is not a time"),
        (changed(last_client=None), "last_client is missing"),
        (changed(last_client="x" * 46), "last_client is not an address"),
        (changed(last_client="a\nb"), "last_client is not an address"),
        (changed(password="x"), "a member that no token of this version has"),
        (b'{"tokens":"12"}', "tokens is missing or of another type"),
        (b'{"tokens":true}', "tokens is missing or of another type"),
    ],
)
def test_a_line_that_is_none_is_refused_with_what_is_wrong_and_not_repeated(
    line: bytes, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        read(line)
    assert SECRET_LOOKING not in str(caught.value)


def test_a_file_of_this_version_is_known_by_its_first_line() -> None:
    check_first(write_first(1_790_000_000.0))
    check_first(b"\xef\xbb\xbf" + write_first(1_790_000_000.0))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_named_as_such(encoding: str) -> None:
    line = ("\ufeff" if encoding.endswith("be") else "") + write_first(1_790_000_000.0).decode()
    with pytest.raises(ValueError, match="in UTF-16"):
        check_first(line.encode(encoding))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "this is not an export"),
        (b"sct_something\n", "this is not an export"),
        (write_token(TOKEN), "this is not an export"),
        (b'{"format":"sidecar tokens","version":2}', "reads version 1"),
        (b'{"format":"sidecar tokens"}', "has version null"),
    ],
)
def test_another_file_or_version_is_told_from_an_export(line: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_first(line)
