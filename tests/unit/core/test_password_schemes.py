"""Hashes of other systems: each is verified as its own tool does, and bounded in cost."""

from __future__ import annotations

import pytest

from sidecar.core.password_schemes import read_hash, why_unusable
from sidecar.core.passwords import UnusableHash, check_hash, decoys_for, verify

PASSWORD = "pässword:1"

# Made by the tools themselves, at low costs; what each makes by default is the same but for that.
HASHES = {
    "Apache's htpasswd, bcrypt": "$2y$05$cnbrfGPk2qPwz2A27i1J1.m/.DExEKX9b7JmeqKtu4biliJqLInkm",
    "Apache's htpasswd, SHA-256": "$5$2HgIchvXzm3euVT8$MvSHCx3/WTujqeF7Jgd8QO0w9wojsEU2BKHn.SrUOpD",
    "Apache's htpasswd, SHA-512": (
        "$6$dpPK9gV4xxA2ImXy$"
        "6aJjI8H./NGacIUGnNHl1tbFQBgdBE/2K6UUTNmCzarKXFxCftXbIXTs4hvKgchJ5c98Jfz3/hh2mc3gUun.Z1"
    ),
    "Laravel, bcrypt": "$2y$05$g7qPsR6b0Oft2yHS24LKU.QvhH3g7ey5ml47OhRHmSuinoIjslArq",
    "PHP, Argon2id": (
        "$argon2id$v=19$m=1024,t=1,p=1$Wk95aWdEY0xhMWVYNDNoNQ"
        "$3mnYPq0aL5wdtkL+e8cSauhfwIvgMpCoUQ6motV2Vdo"
    ),
    "PHP, Argon2i of two lanes": (
        "$argon2i$v=19$m=1024,t=1,p=2$MVVwZ0NZYlNINHN5ZzZzSg"
        "$EqcnqIhAP76QYsAvtO4mz4gew6ZBakKc/rMa3WtsCKU"
    ),
    "mkpasswd, SHA-512 with rounds": (
        "$6$rounds=1000$Fyo9XP2A2h1u/4OB$"
        "3LnAQ7K/teDPYVopeHp.TQxQDF0ALo7bjUNkGE/D055cQ1cbm2fBQfI7GKTPw6MzCQQCzc8A1TVq7SXrY9E3M/"
    ),
    "mkpasswd, SHA-256 with rounds": (
        "$5$rounds=1000$UadL5cG5zLudty77$hBVo8W17luh2ShJHIUrZKqyN17m5m2c/P2JSwwsx2N0"
    ),
    "Django, PBKDF2": (
        "pbkdf2_sha256$1000$saltSALT0123456789abcd$wQy1eGVtdYJxIhgwLq35aPfDnGBwRh8WGnt+4sZnelc="
    ),
    "Django, scrypt": (
        "scrypt$1024$saltSALT0123456789abcd$8$1$FQwMSMIpK+eeFC0Uvofjqhpu3r59zVMGWHmAELcspmuUusGjooz8"
        "hq8388WkYjbaCzgafWRF7wVhAska5sxtFw=="
    ),
    "Django, Argon2": (
        "argon2$argon2id$v=19$m=1024,t=1,p=1$dDg1bWxaVnd2U1Y5dWV5eGY2RjVNdw"
        "$bYTiUQXTfkEd0bRtxbU5UaVyChk0qVlyAEVe4dRxVNQ"
    ),
    "Django, bcrypt": "bcrypt$$2b$05$3r.EjJw5Ajb5dz7Edv6odus5TIePRVw8FFiaLvEhYlQXPEFA7EhcG",
    "Django, bcrypt of SHA-256": (
        "bcrypt_sha256$$2b$05$AfVSREJafPm7hgEF.GIoR.Bo1Reroh3V5PVnLWqG34YPBlOsODOVC"
    ),
    "argon2-cffi, Argon2i": (
        "$argon2i$v=19$m=1024,t=1,p=1$9o4S38OozPzu/eqztColaA"
        "$8QJQpgADOcOm0zq6TmJV/4qQ4GhYs/pNx25tONlU4YY"
    ),
    "passlib, PBKDF2-SHA-256": (
        "$pbkdf2-sha256$1000$/D9nTAlh7J0zJkSolTJGaA$uhONYVmuxqHAo9ZcDEqBAPeQx5cTBEYR/RtUTibFWJ8"
    ),
    "passlib, PBKDF2-SHA-512": (
        "$pbkdf2-sha512$1000$iTHmPIeQEgLg/P.fU6rVmg"
        "$OIURevt3j/kfAdva69gGFo2aa8WQiiGQXEOYK/OtuAJn0c27.El/qZvqr/Rgu.xXkmTkHvKZGePSbM2qikcPQg"
    ),
    "passlib, PBKDF2 as the PHC writes it": (
        "$pbkdf2-sha256$i=1000,l=32$/D9nTAlh7J0zJkSolTJGaA"
        "$uhONYVmuxqHAo9ZcDEqBAPeQx5cTBEYR/RtUTibFWJ8"
    ),
    "passlib, scrypt": (
        "$scrypt$ln=10,r=8,p=1$6/3f2ztnbO0dg1BqDaE0hg$kTFRcuMaEbFvfx87BrJdarudsnLrnunACUOToSdxfcc"
    ),
    "pyca bcrypt, 2a": "$2a$05$6BpIrXVTaOY5odUt5aXJnuSKicq.anj8UhOU9cNCAnTqhczPmuhW.",
}
X72 = "$2b$05$G3/k/lcZvdDM/J87ZeXE4ezhFbfGco8nBNMjwAVxryE6CxKqdFx1K"  # of 72 times "x"


@pytest.mark.parametrize("text", HASHES.values(), ids=HASHES.keys())
def test_the_right_password_and_only_that_verifies(text: str) -> None:
    check_hash(text)
    assert verify(PASSWORD, text)
    for wrong in ("pässword:2", "PÄSSWORD:1", "pässword:1 ", "passwort:1", "", "\0", "x" * 1024):
        assert not verify(wrong, text)


@pytest.mark.parametrize("text", HASHES.values(), ids=HASHES.keys())
def test_a_decoy_is_a_hash_of_the_same_cost_that_the_password_does_not_have(text: str) -> None:
    real = read_hash(text)
    assert real is not None
    decoy = read_hash(real.decoy())
    assert decoy is not None
    assert (decoy.seconds, decoy.memory_kib) == (real.seconds, real.memory_kib)
    assert not verify(PASSWORD, real.decoy())


@pytest.mark.parametrize("text", HASHES.values(), ids=HASHES.keys())
def test_a_hash_that_is_cut_off_is_told_as_one(text: str) -> None:
    for cut in (text[: text.rindex("$") + 12], text[: len(text) // 2]):
        assert "may be cut off" in why_unusable(cut)
        assert not verify(PASSWORD, cut)


@pytest.mark.parametrize("text", HASHES.values(), ids=HASHES.keys())
def test_low_costs_are_weak(text: str) -> None:
    found = read_hash(text)
    assert found is not None
    assert found.weakness


STRONG = (
    "$argon2id$v=19$m=19456,t=2,p=1$" + "a" * 22 + "$" + "a" * 43,
    "$2y$10$" + "." * 53,
    "pbkdf2_sha256$600000$salt$wQy1eGVtdYJxIhgwLq35aPfDnGBwRh8WGnt+4sZnelc=",
    "$pbkdf2-sha512$210000$c2FsdHNhbHQ$" + "A" * 86,
    "$scrypt$ln=17,r=8,p=1$c2FsdHNhbHQ$" + "A" * 43,
)


@pytest.mark.parametrize("text", STRONG)
def test_what_is_advised_is_not_weak(text: str) -> None:
    found = read_hash(text)
    assert found is not None
    assert found.weakness == ""
    assert why_unusable(text) == ""


def test_bcrypt_reads_72_bytes_of_a_password_as_it_does_everywhere() -> None:
    assert verify("x" * 72, X72)
    assert verify("x" * 73, X72)
    assert not verify("x" * 71, X72)


def test_void_bits_of_a_bcrypt_salt_do_not_matter() -> None:
    text = HASHES["Laravel, bcrypt"]
    assert text[28] == "."
    for void in "/AN":
        assert verify(PASSWORD, text[:28] + void + text[29:])
    assert not verify(PASSWORD, text[:28] + "O" + text[29:])


def test_sha_crypt_takes_no_longer_password_than_crypt_does() -> None:
    assert not verify("x" * 513, HASHES["mkpasswd, SHA-512 with rounds"])


UNUSABLE = (
    ("$2y$15$" + "." * 53, "takes more than 2 seconds to verify"),
    ("$2y$31$" + "." * 53, "takes more than 2 seconds to verify"),
    ("$2y$03$" + "." * 53, "begins like bcrypt and can't be read"),
    ("$2y$32$" + "." * 53, "begins like bcrypt and can't be read"),
    ("$2x$10$" + "." * 53, "is of an outdated version of bcrypt"),
    ("$2$10$" + "." * 53, "is of an outdated version of bcrypt"),
    ("pbkdf2_sha256$99999999$salt$" + "A" * 43 + "=", "takes more than 2 seconds to verify"),
    ("$pbkdf2-sha512$4000000$c2FsdA$" + "A" * 86, "takes more than 2 seconds to verify"),
    ("$pbkdf2-sha256$1000$c2FsdA$" + "A" * 86, "has a digest of more than 32 bytes"),
    ("pbkdf2_sha256$0$salt$" + "A" * 43 + "=", "can't be read"),
    ("$scrypt$ln=20,r=8,p=1$c2FsdA$" + "A" * 43, "takes more than 256 MiB to verify"),
    ("$scrypt$ln=63,r=8,p=1$c2FsdA$" + "A" * 43, "takes more than 256 MiB to verify"),
    ("$scrypt$ln=99,r=8,p=1$c2FsdA$" + "A" * 43, "takes more than 256 MiB to verify"),
    ("$scrypt$ln=17,r=8,p=99$c2FsdA$" + "A" * 43, "takes more than 2 seconds to verify"),
    ("scrypt$1000$salt$8$1$" + "A" * 86 + "==", "has an N that is no power of two"),
    ("scrypt$1$salt$8$1$" + "A" * 86 + "==", "has an N that is no power of two"),
    ("$6$rounds=999999999$salt$" + "A" * 86, "takes more than 2 seconds to verify"),
    ("$argon2id$v=19$m=262144,t=16,p=1$" + "a" * 22 + "$" + "a" * 43, "takes more than 2 seconds"),
    ("$argon2i$v=19$m=262145,t=1,p=1$" + "a" * 22 + "$" + "a" * 43, "takes more than 256 MiB"),
    ("$argon2i$v=19$m=64,t=1,p=9$" + "a" * 22 + "$" + "a" * 43, "less than 8 KiB of memory a lane"),
    ("$argon2id$v=19$m=1024,t=1,p=17$" + "a" * 22 + "$" + "a" * 43, "has more than 16 lanes"),
    ("$argon2d$v=19$m=1024,t=1,p=1$" + "a" * 22 + "$" + "a" * 43, "is an Argon2d hash"),
    ("$argon2i$m=1024,t=1,p=1$" + "a" * 22 + "$" + "a" * 43, "an outdated version of Argon2"),
    ("$apr1$dayhI1kW$3fieyw.XIJ4NAHCxideFy.", "is an MD5 hash"),
    ("$1$dayhI1kW$3fieyw.XIJ4NAHCxideFy.", "is an MD5 hash"),
    ("5f4dcc3b5aa765d61d8327deb882cf99", "is an MD5 hash"),
    ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "is an MD5 hash"),
    ("{SHA}PcoIHxhUptvsl48mfbCyv35Tfsw=", "is a SHA-1 hash"),
    ("{SSHA}PcoIHxhUptvsl48mfbCyv35Tfsw=", "is a SHA-1 hash"),
    ("pbkdf2_sha1$1000$salt$PcoIHxhUptvsl48mfbCyv35Tfsw=", "is a SHA-1 hash"),
    ("5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8", "is a SHA-1 hash"),
    ("a" * 64, "is a bare digest"),
    ("haKj5.52r57bY", "is a hash of DES crypt"),
    ("$y$j9T$IB/zLJ5siA05VPENXQ/89/$ZSQhIb5ft01IpuvKSsppCQbAt", "is a yescrypt hash"),
    ("secret", "is it the password itself?"),
    ("", "is it the password itself?"),
    ("{PLAIN}secret", "is it the password itself?"),
)


@pytest.mark.parametrize(("text", "why"), UNUSABLE)
def test_what_cannot_or_should_not_be_used_is_refused_with_the_reason(text: str, why: str) -> None:
    assert why in why_unusable(text)
    with pytest.raises(UnusableHash, match="hash-password"):
        check_hash(text)


def test_unknown_accounts_get_the_costs_of_the_known_ones_in_their_proportions() -> None:
    cheap, dear = HASHES["Laravel, bcrypt"], HASHES["passlib, scrypt"]
    decoy_of = decoys_for([cheap] * 30 + [dear] * 10)
    decoys = [decoy_of(f"nobody-{number}") for number in range(400)]
    share = sum(decoy.startswith("$2y$") for decoy in decoys) / len(decoys)
    assert 0.65 < share < 0.85
    assert not {cheap, dear} & {*decoys}


def test_an_unknown_account_always_gets_the_same_cost_in_every_process() -> None:
    hashes = [*HASHES.values()]
    first, second = decoys_for(hashes), decoys_for([*reversed(hashes)])
    for number in range(50):
        assert first(f"nobody-{number}") == second(f"nobody-{number}")


def test_a_sample_of_many_hashes_does() -> None:
    hashes = [HASHES["Laravel, bcrypt"]] * 100_000
    assert decoys_for(hashes)("nobody").startswith("$2y$05$")
