"""Parses a caller's ``traceparent`` and ``tracestate`` (W3C Trace Context, Recommendation).

An invalid ``traceparent`` is ignored (section 3.2): a new trace begins, and the ``tracestate`` that
came with it is dropped (section 3.3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

TRACE_ID: Final = slice(3, 35)
PARENT_ID: Final = slice(36, 52)
FLAGS: Final = slice(53, 55)
_SAMPLED: Final = 1
_MOST_CHARS: Final = 512
_MOST_MEMBERS: Final = 32

_is_version_00 = re.compile(
    rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch
# Section 3.2.4: later versions are parsed as far as version 00 goes; ff is not a version.
_is_later_version: Final = re.compile(
    rb"(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?"
).fullmatch
_KEY: Final = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_is_member: Final = re.compile(_KEY + rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]").fullmatch


def find_parent(values: Sequence[bytes]) -> str | None:
    """Return a request's ``traceparent`` as it came; ``None`` if it has none or it is invalid.

    Several values are invalid too, as nothing tells which one is meant.
    """
    if len(values) != 1:
        return None
    (value,) = values
    if _is_version_00(value) or (len(value) <= _MOST_CHARS and _is_later_version(value)):
        return value.decode("ascii")
    return None


def is_sampled(traceparent: str) -> bool:
    """Tell whether a valid ``traceparent`` has the sampled flag set."""
    return bool(int(traceparent[FLAGS], 16) & _SAMPLED)


def is_within(traceparent: bytes, given: Sequence[bytes]) -> bool:
    """Tell whether ``traceparent`` continues the trace of the caller's, ``given``."""
    start, end = TRACE_ID.start, TRACE_ID.stop  # mypyc can't index bytes with a slice object
    return len(given) == 1 and traceparent[start:end] == given[0][start:end] != b""


def is_tracestate(values: Sequence[bytes]) -> bool:
    """Tell whether ``tracestate`` values, which form one list, are valid (section 3.3.1)."""
    members = [member.strip(b" \t") for member in b",".join(values).split(b",")]
    named = [member for member in members if member]
    return len(named) <= _MOST_MEMBERS and all(map(_is_member, named))
