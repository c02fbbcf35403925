"""Tests at startup whether this Python's ``re`` matches correctly.

Paths are judged by regular expressions, and some versions of ``re`` match what they must not: on
Python 3.11.2, the one of Debian 12, ``/a/.`` passed although it must be refused. So the functions
that judge requests are run on known inputs before anything is served, which takes a millisecond.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sidecar.core.errors import UsageError
from sidecar.core.model import Denial
from sidecar.core.patterns import compile_pattern, normalise_path
from sidecar.core.targets import is_valid_host, parse_target
from sidecar.core.tokens import Shape, classify

Question = tuple[str, Callable[[], object], object]
"""A question in words, the call that answers it, and the right answer."""


def _target(raw: str) -> str | None:
    target = parse_target("GET", raw)
    return target.code if isinstance(target, Denial) else None


def _matches(pattern: str, path: str) -> bool:
    return compile_pattern(pattern).matches(path)


_TARGETS: Final = {
    **dict.fromkeys(("/.", "/a/.", "/a/..", "/a/.?x", "/a/./b", "/../a", "/a/.;x"), "unsafe_path"),
    **dict.fromkeys(("/%2e", "/a/.%2E/b", "/a%2fb", "/a%5Cb", "/%zz", "/a%"), "unsafe_path"),
    **dict.fromkeys(("/a#b", "/a b", "a", '/"'), "bad_request"),
    **dict.fromkeys(("/", "/a//b", "/a;x/b?c", "/.a/b..", "/a%20b", "http://h:1/a?b"), None),
}
_MATCHES: Final = {
    ("/a/**", "/a"): True,
    ("/a/**", "/a/b/"): True,
    ("/a/**", "/ab"): False,
    ("/a/{id}", "/a/b"): True,
    ("/a/{id}", "/a/"): False,
    ("/a/{id}", "/a/b/c"): False,
    ("/a*", "/ab/c"): False,
    ("/*ab*ba", "/aba"): False,
    ("/*ab*ba", "/xabxba"): True,
    ("/*ab*c/**", "/aab/c"): False,
    ("/*ab*c/**", "/aabxc/d"): True,
}
_SHAPES: Final = {
    "eyJhIjoxfQ.eyJhIjoxfQ.c2lnbmF0dXJl": Shape.JWT,
    "eyJhIjoxfQ.eyJhIjoxfQ.c2lnbmF0dXJl!": Shape.OTHER,
    "eyJhIjoxfQ.eyJhIjoxfQ.": Shape.OTHER,
    "a" * 16 + " ": Shape.UNREADABLE,
}
_HOSTS: Final = {"a.example:80": True, "[::1]:80": True, "a@b": False, "a:": True, "[::1": False}

QUESTIONS: Final[Sequence[Question]] = (
    *((f"the target {raw}", partial(_target, raw), code) for raw, code in _TARGETS.items()),
    *(
        (f"{path} by the pattern {pattern}", partial(_matches, pattern, path), answer)
        for (pattern, path), answer in _MATCHES.items()
    ),
    *((f"the token {text}", partial(classify, text, "sct_"), s) for text, s in _SHAPES.items()),
    *(
        (f"the host {text}", partial(is_valid_host, text), answer)
        for text, answer in _HOSTS.items()
    ),
    ("the path /%41%2f", partial(normalise_path, "/%41%2f"), "/A%2F"),
)


def refuse_broken_re(questions: Sequence[Question] = QUESTIONS) -> None:
    """Raise ``UsageError`` at the first question that is answered wrongly."""
    for asked, ask, answer in questions:
        if ask() != answer:
            raise UsageError(
                f"the regular expressions of this Python ({platform.python_version()}) are broken: "
                f"it misjudges {asked}; install another version of Python"
            )
