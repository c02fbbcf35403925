"""How durations and sizes are read and written."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.diagnostics import Rejected
from sidecar.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("3s", 3.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("14d", 1209600.0),
        ("0s", 0.0),
        ("0", 0.0),
        (0, 0.0),
        ("36500d", 36500 * 86400.0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (30, "without a unit; write 30s"),
        (1.5, "without a unit; write 1.5s"),
        ("30", "is not a duration"),
        ("-3s", "is not a duration"),
        ("3 s", "is not a duration"),
        ("3S", "is not a duration"),
        ("1h30m", "is not a duration"),
        ("s", "is not a duration"),
        ("", "is not a duration"),
        ("3s\n", "is not a duration"),
        ("٣s", "is not a duration"),
        ("1e9s", "is not a duration"),
        ("36501d", "more than 36500d"),
        ("99999999999999s", "is not a duration"),
        (True, "is not a duration"),
        (None, "is not a duration"),
        ([], "is not a duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_advice(text: object, fragment: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_duration(text)
    assert fragment in str(caught.value)
    assert "write" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        (512, 512),
        ("512", 512),
        ("512B", 512),
        ("16KiB", 16384),
        ("1MiB", 1048576),
        ("2GiB", 2 * 1024**3),
        (0, 0),
        ("0", 0),
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_binary_unit(text: object, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    ["16KB", "16kib", "16K", "1.5MiB", "-1", -1, "", "MiB", 1.0, True, None, {}, "9" * 30],
)
def test_what_is_no_size_is_refused_with_advice(text: object) -> None:
    with pytest.raises(Rejected, match=r"is not a size; write it like 16KiB"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**13))
def test_a_written_duration_reads_back_as_itself(milliseconds: int) -> None:
    seconds = min(milliseconds / 1000, 36500 * 86400.0)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.integers(min_value=0, max_value=10**12 - 1))
def test_a_written_size_reads_back_as_itself(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text())
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for read in (parse_duration, parse_size):
        with suppress(Rejected):
            assert read(text) >= 0
