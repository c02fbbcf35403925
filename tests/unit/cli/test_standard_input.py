"""A secret on standard input: what editors and shells add is taken off, all else is said."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from sidecar.cli.standard_input import MAX_INPUT_BYTES, read_password, read_token
from sidecar.core.errors import UsageError

SECRET = "corr\u00e9ct horse"
RAW = SECRET.encode()
BOM = b"\xef\xbb\xbf"


def give(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), "ascii"))


class Terminal(io.StringIO):
    """A terminal's end of standard input; what is typed at it goes through ``getpass``."""

    def isatty(self) -> bool:
        return True


def type_in(monkeypatch: pytest.MonkeyPatch, *answers: str | None) -> list[str]:
    """Have somebody answer the prompts (``None``: with Ctrl-D); return the prompts."""
    prompts: list[str] = []
    typed: Iterator[str | None] = iter(answers)

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        text = next(typed)
        if text is None:
            raise EOFError
        return text

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", answer)
    return prompts


@pytest.mark.parametrize(
    "raw",
    [RAW, RAW + b"\n", RAW + b"\r\n", RAW + b"\r", RAW + b"\n\n", BOM + RAW, BOM + RAW + b"\r\n"],
)
def test_a_password_is_its_line_without_what_editors_add(
    monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    give(monkeypatch, raw)
    assert read_password() == SECRET


@pytest.mark.parametrize(
    "password", ["  blanks  ", "a:b", "\u20ac", "\u00a0", "a\ufeffb", "-", " "]
)
def test_a_password_keeps_every_character_of_its_own(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    give(monkeypatch, password.encode() + b"\n")
    assert read_password() == password


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no {} came on standard input"),
        (b"\r\n", "no {} came on standard input"),
        (BOM, "no {} came on standard input"),
        (BOM + b"\r\n", "no {} came on standard input"),
        (RAW + b"\nmore\n", "more than one line; give the {} alone"),
        (RAW + b"\r\nmore", "more than one line; give the {} alone"),
        (b"\n" + RAW + b"\nx", "more than one line; give the {} alone"),
        (b"user\r" + RAW, "more than one line; give the {} alone"),
        (SECRET.encode("utf-16"), "is in UTF-16"),
        (SECRET.encode("utf-16-be"), "is in UTF-16"),
        (SECRET.encode("utf-16-le"), "is in UTF-16"),
        (SECRET.encode("latin-1"), "is not in UTF-8"),
        (b"\xff", "is not in UTF-8"),
        (RAW + b"\0", "a control character in it"),
        (RAW + b"\tx", "a control character in it"),
        (b"\x1b[201~" + RAW, "a control character in it"),
        (b"x" * (MAX_INPUT_BYTES + 1), "longer than any {}"),
    ],
)
def test_what_may_be_meant_otherwise_is_refused_with_a_reason_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, raw: bytes, says: str
) -> None:
    for read, what in ((read_password, "password"), (read_token, "token")):
        give(monkeypatch, raw)
        with pytest.raises(UsageError) as refused:
            read()
        assert says.format(what) in str(refused.value)
        assert "horse" not in str(refused.value)


@pytest.mark.parametrize("raw", [b"%b", b" %b\n", BOM + b"%b\r\n", b"\n%b\n\n", b"\t%b  "])
def test_a_token_is_read_without_white_space_around_it(
    monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    give(monkeypatch, raw % b"a-token-of-an-old-system")
    assert read_token() == "a-token-of-an-old-system"


def test_a_closed_standard_input_has_nothing_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="no token came"):
        read_token()


def test_a_terminal_asks_and_asks_again_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type_in(monkeypatch, SECRET) == []
    assert read_password() == SECRET
    prompts = type_in(monkeypatch, SECRET, SECRET)
    assert read_password(asks_twice=True) == SECRET
    assert prompts == ["Password: ", "Again: "]
    prompts = type_in(monkeypatch, " a-token-of-somebody ")
    assert (read_token(), prompts) == ("a-token-of-somebody", ["Token: "])


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((SECRET, "another"), "the two passwords differ"),
        (("", ""), "no password was typed"),
        ((None,), "ended before anything was typed"),
        ((SECRET, None), "ended before anything was typed"),
        (("a\x1b[D", "a\x1b[D"), "a control character in it"),
    ],
)
def test_what_is_typed_wrongly_is_refused(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[str | None, ...], says: str
) -> None:
    type_in(monkeypatch, *answers)
    with pytest.raises(UsageError, match=says):
        read_password(asks_twice=True)
