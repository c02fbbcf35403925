"""Group B, the parts without a memory: how account and password are read, and what is one answer.

What happens after failures is in ``password_plays``; timing and load are in ``tests/soak``.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from tests.conformance.case import LISTENER, Case, request
from tests.conformance.oracle import Observation
from tests.conformance.stage import ACCENTED_PASSWORD

GOOD = b"acme:correct:horse:battery:staple"
ACCENTED = f"accented:{ACCENTED_PASSWORD}".encode()
LONGEST = b"longest:" + b"x" * 1024


def basic(pair: bytes) -> bytes:
    """Return a request with this pair in HTTP Basic."""
    return raw(base64.b64encode(pair))


def raw(encoded: bytes) -> bytes:
    """Return a request with this after ``Basic``, as it is."""
    return request(b"Authorization: Basic " + encoded)


def is_one_answer(seen: Observation) -> None:
    """The body says nothing of which of the two was wrong."""
    assert seen.answers[-1] is not None
    told = json.loads(seen.answers[-1].body)
    assert told["detail"] == "The account or the password is wrong."


def passed(name: str, pair: bytes, account: bytes = b"acme") -> Case:
    return Case(
        name=name, weight=5, send=(basic(pair),), answers=(200,), seen=(LISTENER,), account=account
    )


def wrong(name: str, pair: bytes) -> Case:
    return Case(
        name=name,
        weight=5,
        send=(basic(pair),),
        answers=(401,),
        code="invalid_password",
        asks_store=False,
        check=is_one_answer,
    )


def wrong_as_sent(name: str, encoded: bytes) -> Case:
    """Return the case of a wrong pair whose base64 is clumsy, and readable all the same."""
    return replace(wrong(name, b""), send=(raw(encoded),))


def unreadable(name: str, encoded: bytes, status: int = 401) -> Case:
    return Case(
        name=name,
        weight=5,
        send=(raw(encoded),),
        answers=(status,),
        code="malformed_credentials" if status == 401 else "headers_too_large",
        asks_store=False,
    )


READING = [
    passed("B1 colons in the password", GOOD),
    passed("B1 UTF-8, a blank and a key", ACCENTED, b"accented"),
    wrong("B1 less after the last colon", b"acme:correct:horse:battery"),
    wrong("B1 a colon more", GOOD + b":"),
    wrong("B1 a blank more", GOOD + b" "),
    wrong("B1 a blank before the name", b" " + GOOD),
    wrong("B1 the name in another case", b"ACME" + GOOD[4:]),
    wrong("B1 the password in another case", GOOD.upper().replace(b"ACME", b"acme")),
    wrong("B1 NFD for NFC", b"accented:" + "pa\u0308sswo\u0308rd: \u20ac \U0001f511".encode()),
    wrong("B1 an account in another Unicode form", "\uff41cme".encode() + GOOD[4:]),
    wrong("B1 an empty password", b"acme:"),
    wrong("B1 an account without a password", b"globex:"),
    wrong("B1 anything for an account without a password", b"globex:x"),
    wrong("B1 the hash for the password", b"acme:$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"),
    wrong("B1 an unknown account", b"nobody:correct:horse:battery:staple"),
    wrong("B1 a name of ours, for Redis", b"__proto__:x"),
    wrong("B1 a wrong one in Latin-1", "accented:p\u00e4ssw\u00f6rd".encode("latin-1")),
    wrong("B1 a surrogate", b"acme:\xed\xa0\x80"),
    passed("B1 Latin-1", "latin:p\u00e4ssw\u00f6rd".encode("latin-1"), b"latin"),
    passed("B1 the same in UTF-8", "latin:p\u00e4ssw\u00f6rd".encode(), b"latin"),
    wrong("B1 the UTF-8 of its UTF-8", "latin:p\u00c3\u00a4ssw\u00c3\u00b6rd".encode()),
    wrong_as_sent("B1 cut at the end", base64.b64encode(GOOD)[:-1]),
    wrong_as_sent("B1 a wrong one in base64url", b"YWNtZTr__vvvvv8"),
    *(
        unreadable(f"B1 {what}", encoded)
        for what, encoded in (
            ("no colon", base64.b64encode(b"acme")),
            ("no account", base64.b64encode(b":correct:horse:b")[:-4]),
            ("a colon alone", base64.b64encode(b":")),
            ("nothing", b""),
            ("no base64", b"!!!!"),
            ("a letter too many for base64", base64.b64encode(GOOD).rstrip(b"=") + b"A"),
            ("too much padding", base64.b64encode(GOOD) + b"===="),
            ("padding within", b"YWNtZQ==" + base64.b64encode(b":x")),
            ("UTF-16", base64.b64encode("acme:x".encode("utf-16"))),
            ("an overlong colon", base64.b64encode(b"acme\xc0\xbax")),
            ("two", base64.b64encode(GOOD) + b" " + base64.b64encode(GOOD)),
            ("a parameter after it", base64.b64encode(GOOD) + b", charset=UTF-8"),
        )
    ),
]

BOUNDED = [
    passed("B2 the longest password that can be", LONGEST, b"longest"),
    wrong("B2 one byte more", LONGEST + b"x"),
    wrong("B2 one byte more, nobody's", b"nobody:" + b"x" * 1025),
    unreadable("B2 above 4 KiB", base64.b64encode(b"acme:" + b"x" * 4000)),
    unreadable("B2 a megabyte", base64.b64encode(b"acme:" + b"x" * (1 << 20)), 431),
]

ZERO = [
    unreadable(f"B3 {what}", base64.b64encode(pair))
    for what, pair in (
        ("NUL after the password", GOOD + b"\0"),
        ("NUL before it", b"acme:\0" + GOOD[5:]),
        ("NUL after the account", b"acme\0" + GOOD[4:]),
        ("NUL alone", b"\0:\0"),
        ("CR LF in the account", b"ac\r\nme:x"),
        ("DEL in the password", GOOD + b"\x7f"),
    )
]

CASES = [*READING, *BOUNDED, *ZERO]
