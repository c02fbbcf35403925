"""Reads a secret for a command: typed at a terminal without echo, else from standard input.

A file that an editor or a shell made holds more than the secret. What nobody means is taken off: a
byte order mark (UTF-8), and line ends behind it. What could be meant otherwise is a ``UsageError``
that says what came: a second line, UTF-16, bytes that are not UTF-8, a control character, nothing
at all. No message repeats any of it.
"""

from __future__ import annotations

import codecs
import getpass
import re
import sys
from typing import Final

from sidecar.core.errors import UsageError

MAX_INPUT_BYTES: Final = 65536

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_has_control: Final = re.compile(r"[\x00-\x1f\x7f]").search


def read_password(*, asks_twice: bool = False) -> str:
    """Return a password as it is, blanks at its ends included: they are part of it."""
    if is_terminal():
        password = _ask("Password: ")
        if asks_twice and password != _ask("Again: "):
            raise UsageError("the two passwords differ; nothing was done")
        return _check(password, "password")
    return _check(_read("password").rstrip("\r\n"), "password")


def read_token() -> str:
    """Return a token, without white space around it."""
    if is_terminal():
        return _check(_ask("Token: ").strip(), "token")
    return _check(_read("token").strip(), "token")


def is_terminal() -> bool:
    """Tell whether someone can type an answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise UsageError("the input ended before anything was typed") from None


def _read(what: str) -> str:
    raw = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if len(raw) > MAX_INPUT_BYTES:
        raise UsageError(f"standard input is longer than any {what}: it must hold one {what} alone")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if raw.startswith(_UTF_16) or b"\0" in raw[:2]:
        raise UsageError(
            f"standard input is in UTF-16, as PowerShell writes files; give the {what} in UTF-8"
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise UsageError(f"standard input is not in UTF-8; give the {what} in UTF-8") from None


def _check(secret: str, what: str) -> str:
    """Return the secret, or raise ``UsageError`` if it is empty or can't be one."""
    if not secret and is_terminal():
        raise UsageError(f"no {what} was typed")
    if not secret:
        raise UsageError(
            f"no {what} came on standard input; pipe it in, which keeps it out of the shell's "
            "history"
        )
    if "\n" in secret or "\r" in secret:
        raise UsageError(
            f"standard input has more than one line; give the {what} alone, in one line"
        )
    if _has_control(secret):
        raise UsageError(f"the {what} has a control character in it, which nobody can send")
    return secret
