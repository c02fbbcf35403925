"""Origins of web pages, as browsers write them in ``Origin`` (the HTML standard, "origin")."""

from __future__ import annotations

import re
from typing import Final

from sidecar.config.diagnostics import Rejected
from sidecar.config.substitution import Substituted

ORIGIN_PATTERN: Final = r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@]+"
"""For the schema: what an origin looks like at first sight."""

_ADVICE: Final = "write it like https://shop.example, https://*.shop.example, * or null"
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_parse: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://((?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
).fullmatch
_path_after: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]+)[/?#]\S*").fullmatch


def parse_origin(value: str) -> str:
    """Return an origin in lower case and without a default port, as a browser sends it.

    Raises ``Rejected`` for anything else; ``*`` and ``null`` stay as they are.
    """
    if value in ("*", "null"):
        return value
    parsed = _parse(value.lower())
    if parsed is None:
        longer = _path_after(value)
        advice = _ADVICE
        if longer is not None and not isinstance(value, Substituted):
            advice = f"an origin ends with its host or port: did you mean {longer[1]}?"
        raise Rejected("is not an origin", advice, value)
    scheme, host, port = parsed[1], parsed[2], parsed[3] or ""
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS.get(scheme) else port)
