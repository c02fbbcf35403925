"""What ``${...}`` becomes, and what it never gives away."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.diagnostics import Rejected
from sidecar.config.substitution import (
    MAX_FILE_BYTES,
    Substituted,
    files_named_in,
    substitute,
)

ENVIRON = {"HOST": "db", "EMPTY": "", "TRICK": "${HOST}", "SECRET": "hunter2"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${HOST}", "db"),
        ("redis://${HOST}:${PORT:-6379}/0", "redis://db:6379/0"),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a:-b}", "a:-b"),
        (
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
        ),
        ("$HOST $$ $", "$HOST $$ $"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("${TRICK}", "${HOST}"),
        ("}{${HOST}}", "}{db}"),
    ],
)
def test_an_expression_is_replaced_once(text: str, result: str) -> None:
    assert substitute(text, ENVIRON, Path()) == result


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"a\nb\n\n", "a\nb\n"),
        (b"", ""),
        ("pä".encode(), "pä"),
    ],
)
def test_a_file_is_read_beside_the_configuration_without_its_last_line_end(
    tmp_path: Path, content: bytes, result: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert substitute("${file:secret}", {}, tmp_path) == result
    assert substitute(f"${{file:{tmp_path}/secret}}", {}, Path("/nowhere")) == result


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("${UNSET}", "${UNSET} is not set"),
        ("${", "without a }"),
        ("${HOST", "without a }"),
        ("${}", "is not a substitution"),
        ("${a b}", "is not a substitution"),
        ("${1X}", "is not a substitution"),
        ("${HOST:default}", "is not a substitution"),
        ("${file:}", "names no file"),
        ("${file:missing}", "names a file that does not exist"),
        ("${file:.}", "does not name a regular file"),
        ("${file:a\0b}", "names no file"),
        ("${file:large}", "larger than 64 KiB"),
        ("${file:binary}", "not UTF-8 text"),
        ("${file:/dev/zero}", "does not name a regular file"),
    ],
)
def test_a_failed_substitution_is_refused_with_its_expression(
    tmp_path: Path, text: str, fragment: str
) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Rejected) as caught:
        substitute(text, ENVIRON, tmp_path)
    assert fragment in str(caught.value)


def test_a_substituted_text_shows_its_expressions_and_nothing_else() -> None:
    text = substitute("redis://hunter2:${SECRET}@${UNSET:-hunter2}/0", ENVIRON, Path())
    assert isinstance(text, Substituted)
    assert repr(text) == "the value of ${SECRET} and ${UNSET:-...}"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("plain ${HOST} $5", []),
        ("${file:a}", ["a"]),
        ("x${file:a}y${file:/b/c}z", ["a", "/b/c"]),
        ("$${file:a}", []),
        ("${file:}", []),
        ("${file:a", []),
        ("${file:a\0b}", []),
    ],
)
def test_the_files_that_a_text_is_made_of_are_known_before_they_are_read(
    text: str, names: list[str]
) -> None:
    assert list(files_named_in(text, Path("/d"))) == [Path("/d") / name for name in names]


@given(st.text(alphabet="${}:-fileABC x\0\n"))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with suppress(Rejected):
        result = substitute(text, ENVIRON, Path("/nowhere"))
        assert "${" in text or result == text
