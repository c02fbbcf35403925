"""The other ways in which services are known to interpret a path.

=========================  ========================================================================
slashes merged             ``//admin`` is ``/admin``: nginx (``merge_slashes``), Apache, Go's mux
parameters taken out       ``/admin;v=1/x`` is ``/admin/x``: servlet containers, Spring, Jetty
read as a URL reference    ``//x/admin`` is ``/admin`` on the host ``x`` (RFC 3986 section 4.2):
                           ``new URL(request.url, base)`` in Node.js
=========================  ========================================================================

Where a route lets encoded slashes in (``encoded_slash``), there is one more, and all of these of
what it gives:

=========================  ========================================================================
encoded slashes decoded    ``/a%2Fadmin`` is ``/a/admin``: whatever decodes a path before it is
                           split (WSGI, CGI, ``net/http`` in Go)
=========================  ========================================================================

Services do any of these alone, or several in either order. A request must be served as it was
judged, so a path is refused if any reading falls under another rule than the path as sent
(``routes``, ``policy``). Dot segments, which such readings could reveal, are refused earlier
(``targets``).
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.patterns import normalise_path

_merge: Final = re.compile(r"//+").sub
_take_parameters: Final = re.compile(r";[^/]*").sub
_decode_slashes: Final = re.compile(r"%2[Ff]").sub
_ENCODED_SEMICOLON: Final = "%3"


def other_readings(sent: str, path: str) -> tuple[str, ...]:
    """Return the normalised readings that differ from ``path``; nearly all paths have none.

    ``path`` is what ``normalise_path`` returns for ``sent``. There are at most twenty readings,
    none longer than ``path``, so the time is linear in its length.
    """
    if "//" not in path and ";" not in path:
        return ()
    starts = [sent]
    if sent.startswith("//"):
        starts.append("/" + sent.lstrip("/").partition("/")[2])
    found: dict[str, None] = {}
    for start in starts:
        found.update(dict.fromkeys(_read(normalise_path(start))))
        if _ENCODED_SEMICOLON in start:  # some services remove parameters before they decode
            bare = normalise_path(_take_parameters("", start))
            found.update(dict.fromkeys(_read(bare)))
    found.pop(path, None)
    return tuple(found)


def decoded_readings(sent: str) -> tuple[str, ...]:
    """Return the normalised readings of a path whose encoded slashes are decoded.

    There is none if it has none, and at most twenty-one otherwise.
    """
    opened = _decode_slashes("/", sent)
    if opened == sent:
        return ()
    path = normalise_path(opened)
    return path, *other_readings(opened, path)


def _read(path: str) -> tuple[str, ...]:
    merged, bare = _merge("/", path), _take_parameters("", path)
    return path, merged, bare, _merge("/", bare), _take_parameters("", merged)
