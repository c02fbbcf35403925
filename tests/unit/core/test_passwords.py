"""Passwords: hashed with Argon2id, compared as they are, bounded in every way."""

from __future__ import annotations

import re

import pytest

from sidecar.core.passwords import check_hash, decoys_for, hash_password, verify

HASH = hash_password("päß:wörd")


def test_a_hash_is_argon2id_in_phc_form_with_the_owasp_parameters() -> None:
    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}", HASH, re.A)
    assert hash_password("päß:wörd") != HASH, "each hash has its own salt"
    check_hash(HASH)


def test_the_right_password_and_only_that_verifies() -> None:
    assert verify("päß:wörd", HASH)
    for wrong in ("", "päß:wör", "päß:wörd ", "PÄSS:WÖRD", HASH):
        assert not verify(wrong, HASH)


def test_a_password_is_not_normalised() -> None:
    assert not verify("pa\u0308ß:wo\u0308rd", HASH)


def test_a_nul_does_not_end_a_password() -> None:
    assert not verify("päß:wörd\0", HASH)
    assert verify("a\0b", hash_password("a\0b"))


@pytest.mark.parametrize("password", ["", "x" * 1025, "é" * 513, "x" * 1_000_000, "\ud800"])
def test_a_password_of_no_bytes_or_too_many_is_refused_without_hashing(password: str) -> None:
    assert not verify(password, "$argon2id$v=19$m=999999999,t=999,p=1$" + "a" * 22 + "$" + "a" * 43)
    with pytest.raises(ValueError, match="1 to 1024 bytes"):
        hash_password(password)


def test_the_longest_password_works() -> None:
    assert verify("é" * 512, hash_password("é" * 512))


@pytest.mark.parametrize(
    "phc",
    [
        "",
        "secret",
        "$argon2id$",
        HASH[:-1] + "!",
        HASH.replace("argon2id", "argon2d"),
        HASH.replace("v=19", "v=16"),
        HASH.replace("m=19456", "m=1"),
        HASH.replace("p=1", "p=0"),
        HASH + "\n",
        HASH + "$",
        "$2b$12$abcdefghijklmnopqrstuv",
        "é" * 80,
    ],
)
def test_a_hash_that_cannot_be_read_verifies_nothing_and_is_reported(phc: str) -> None:
    assert not verify("päß:wörd", phc)
    with pytest.raises(ValueError, match="the password hash"):
        check_hash(phc)


def test_a_decoy_costs_what_the_hashes_cost_and_no_password_has_it() -> None:
    decoy = decoys_for([HASH, HASH])("nobody")
    assert decoy.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert not verify("päß:wörd", decoy)
    check_hash(decoy)


def test_a_decoy_without_hashes_costs_what_ours_do() -> None:
    assert decoys_for([])("nobody").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
