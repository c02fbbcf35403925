"""Diagnostics: what is wrong in the file and what to do, never with a value that may be secret."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

_MOST_COMPARED: Final = 2000  # each takes 10 µs


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One mistake in the file, at a line and column that count from 1."""

    line: int
    column: int
    text: str


class Rejected(ValueError):
    """A value is not allowed here.

    ``why`` continues a sentence that begins with the value; ``advice`` says what to do. The value
    is kept separately, so that a diagnostic can leave it out.
    """

    def __init__(self, why: str, advice: str, value: object = None) -> None:
        super().__init__(why, advice, value)
        self.why = why
        self.advice = advice
        self.value = value

    def sentence(self, subject: str | None = None) -> str:
        """Return the message in one line; ``subject`` replaces the value."""
        return f"{subject or shown(self.value)} {self.why}; {self.advice}"

    def __str__(self) -> str:
        return self.sentence()


def shown(value: object) -> str:
    """Return a value as a diagnostic shows it: shortened; ``None`` becomes ``this value``."""
    if value is None:
        return "this value"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def near_miss(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that ``word`` is probably a misspelling of, if there is one.

    Of very many candidates, only the first ones are compared.
    """
    compared = islice(candidates, _MOST_COMPARED)
    folded = {candidate.lower().replace("-", "_"): candidate for candidate in compared}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None
