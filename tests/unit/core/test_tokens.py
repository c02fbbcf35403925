"""Tokens: made of enough randomness, told apart by their shape alone."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.tokens import Shape, _checksum, check_prefix, classify, digest, generate, new_id

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIXES = st.text(alphabet=BASE62 + "_", max_size=15)
SEEDS = st.integers(min_value=0)


def seeded(seed: int = 1) -> random.Random:
    return random.Random(seed)


@given(PREFIXES, SEEDS)
def test_what_is_generated_is_an_access_token_of_exactly_64_characters(
    prefix: str, seed: int
) -> None:
    token = generate(prefix, seeded(seed).randbytes)
    assert re.fullmatch(r"[A-Za-z0-9_]{64}", token)
    assert token.startswith(prefix)
    assert classify(token, prefix) is Shape.ACCESS


@given(SEEDS, st.integers(0, 63), st.characters(min_codepoint=0x21, max_codepoint=0x7E))
def test_no_token_with_one_character_changed_is_an_access_token(
    seed: int, position: int, character: str
) -> None:
    token = generate("sct_", seeded(seed).randbytes)
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        assert classify(changed, "sct_") is not Shape.ACCESS


@given(SEEDS, st.integers(4, 63), st.sampled_from(BASE62 + "_"))
def test_a_mistyped_token_is_known_by_its_checksum(
    seed: int, position: int, character: str
) -> None:
    token = generate("sct_", seeded(seed).randbytes)
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        assert classify(changed, "sct_") is Shape.BAD_CHECKSUM


def test_the_checksum_is_six_base62_digits_of_crc32() -> None:
    body = "sct_" + "0" * 54
    assert classify(body + "321jKJ", "sct_") is Shape.ACCESS


@pytest.mark.parametrize("odd", "-.~")
def test_a_right_checksum_makes_no_token_of_other_characters(odd: str) -> None:
    body = "sct_" + odd + "0" * 53
    assert classify(body + _checksum(body), "sct_") is Shape.OTHER


@pytest.mark.parametrize("byte", [0, 61, 62, 247])
def test_each_random_byte_becomes_the_digit_of_its_remainder(byte: int) -> None:
    token = generate("sct_", lambda count: bytes([byte]) * count)
    assert token[4:58] == BASE62[byte % 62] * 54


def test_bytes_that_would_favour_some_digits_are_passed_over() -> None:
    rounds = iter([bytes(range(248, 256)) * 10, b"\x01" * 60])
    assert generate("sct_", lambda count: next(rounds))[4:58] == "1" * 54


def test_random_digits_are_evenly_spread() -> None:
    entropy = seeded(7).randbytes
    counts = Counter("".join(generate("sct_", entropy)[4:58] for _ in range(5000)))
    expected = 5000 * 54 / 62
    chi_square = sum((counts[digit] - expected) ** 2 / expected for digit in BASE62)
    assert chi_square < 120  # 61 degrees of freedom: 99.999 % lie below


@pytest.mark.parametrize("prefix", ["a" * 16, "a-b", "ü", "a b", "a\n"])
def test_a_prefix_that_is_too_long_or_of_other_characters_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="token prefix"):
        check_prefix(prefix)
    with pytest.raises(ValueError, match="token prefix"):
        generate(prefix, os.urandom)


JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("secret", "shape"),
    [
        (JWT, Shape.JWT),
        (JWT + "==", Shape.JWT),
        ("a" * 20 + ".b.c", Shape.JWT),
        ("e." * 2 + "e" * 16379 + "e", Shape.JWT),
        ("e." * 2 + "e" * 16379 + "ee", Shape.UNREADABLE),
        ("sct_" + "a" * 40 + "." + "b" * 8 + "." + "c" * 10, Shape.JWT),
        (JWT + ".x", Shape.OTHER),
        (JWT + ".x.y", Shape.OTHER),
        ("." + JWT[21:], Shape.OTHER),
        (JWT.rpartition(".")[0] + ".", Shape.OTHER),
        ("x" * 16, Shape.OTHER),
        ("x" * 4096, Shape.OTHER),
        ("!~" * 8, Shape.OTHER),
        ("sct_" + "x" * 59, Shape.OTHER),
        ("sct_" + "x" * 61, Shape.OTHER),
        ("sct-" + "x" * 60, Shape.OTHER),
        ("sct_" + "x" * 59 + "-", Shape.OTHER),
        ("sct_" + "x" * 60, Shape.BAD_CHECKSUM),
        ("sct_" + "x" * 54 + "_" * 6, Shape.BAD_CHECKSUM),
        ("x" * 15, Shape.UNREADABLE),
        ("x" * 4097, Shape.UNREADABLE),
        ("", Shape.UNREADABLE),
        ("x" * 20 + " ", Shape.UNREADABLE),
        ("x" * 20 + "\0", Shape.UNREADABLE),
        ("x" * 20 + "\n", Shape.UNREADABLE),
        ("ü" * 20, Shape.UNREADABLE),
        ("sct_" + "é" * 60, Shape.UNREADABLE),
        ("sct_" + "٥" * 60, Shape.UNREADABLE),
        (JWT + "\n", Shape.UNREADABLE),
        (JWT.replace("e", "é"), Shape.UNREADABLE),
    ],
)
def test_a_string_is_told_apart_by_its_shape(secret: str, shape: Shape) -> None:
    assert classify(secret, "sct_") is shape


@given(st.text())
def test_any_text_at_all_has_a_shape(secret: str) -> None:
    assert isinstance(classify(secret, "sct_"), Shape)


def test_a_digest_is_sha256_in_hex() -> None:
    assert digest("abc") == hashlib.sha256(b"abc").hexdigest()


def test_an_id_is_14_lowercase_letters_and_digits() -> None:
    assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{14}", new_id(os.urandom))
    assert len({new_id(os.urandom) for _ in range(1000)}) == 1000
