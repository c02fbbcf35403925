"""Fields that a request may carry twice, although aiohttp's parser takes them for singletons.

The parser refuses the second of any of ten fields. Three of them say where a message ends or which
site it is for (``Content-Length``, ``Transfer-Encoding``, ``Host``), and stay refused. The other
seven mean nothing to a proxy. Sloppy clients do send them twice, and nginx, HAProxy, Caddy and
Envoy forward what comes. So do we: every line, in its order and case.

Such a head is parsed again, with each of these names replaced by one of the same length that means
nothing; then the names are put back from their own lines. Why that is safe: the parser accepts no
line end but CR LF and no folded line, so in a head that it accepts each CR LF begins a field of its
own; and nothing that it judges, framing least of all, depends on one of these seven names. Whatever
else is wrong with the head is still an error.
"""

from __future__ import annotations

import re
from typing import Final

REPEATABLE: Final = frozenset(
    {
        *("content-location", "content-range", "content-type", "etag", "max-forwards"),
        *("server", "user-agent"),
    }
)

Fields = tuple[tuple[bytes, bytes], ...]

_STANDS_FOR: Final = b"x"
_LINE_END: Final = b"\r\n"
_find_name: Final = re.compile(
    rb"\r\n(?i:%b)(?=:)" % b"|".join(name.encode() for name in sorted(REPEATABLE))
)
_find_repeat: Final = re.compile(r"Duplicate '([A-Za-z-]+)' header").match


def is_forgivable(message: str) -> bool:
    """Tell whether the parser's error is that a repeatable field was repeated."""
    found = _find_repeat(message)
    return found is not None and found[1].lower() in REPEATABLE


def hide_names(head: bytes) -> bytes:
    """Return the head without the names of repeatable fields, and as long as before."""
    return _find_name.sub(_hide_name, head)


def restore_names(fields: Fields, head: bytes) -> Fields | None:
    """Return the fields that the parser found, with the names that they have in ``head``.

    ``fields`` are those of ``hide_names(head)``. ``None`` if they are not those of ``head``.
    """
    lines = head.lstrip(_LINE_END).split(_LINE_END)[1:-2]
    if len(lines) != len(fields):
        return None
    restored = []
    for line, (name, value) in zip(lines, fields, strict=True):
        if line[len(name) : len(name) + 1] != b":":
            return None
        restored.append((line[: len(name)], value))
    return tuple(restored)


def _hide_name(found: re.Match[bytes]) -> bytes:
    return _LINE_END + _STANDS_FOR * (len(found[0]) - len(_LINE_END))
