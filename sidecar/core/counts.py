"""A number with its noun, as messages have it."""

from __future__ import annotations


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 line``, ``2 lines``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
