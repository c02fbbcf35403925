"""What the site's home page has that the README lacks: ways to go on, in view at once."""

from __future__ import annotations

import re
from typing import NamedTuple


class _Way(NamedTuple):
    """A page that a newcomer wants first, and why."""

    page: str
    title: str
    about: str


_WAYS = (
    _Way("tutorial/first-ten-minutes", "Try it", "Ten minutes: a proxy, a token, a call."),
    _Way(
        "how-to/put-it-in-front-of-a-service",
        "Put it in front of a service",
        "Ten lines of YAML, checked before the first socket opens.",
    ),
    _Way("reference/configuration", "Every setting", "What it holds, its default, its meaning."),
    _Way(
        "explanation/why-this",
        "Why this, and not X",
        "Beside nginx, Envoy, oauth2-proxy and Kong; what it costs, and when not to use it.",
    ),
)


def with_ways(text: str) -> str:
    """Return the home page's text with the ways to go on below its first paragraph."""
    links = "".join(
        f'<a href="{way.page}/"><strong>{way.title}</strong> <span>{way.about}</span></a>'
        for way in _WAYS
    )
    ways = f'<nav class="ways" aria-label="Where to start">{links}</nav>'
    return re.sub(r"(?<=\n\n)(\w.*?\n\n)", rf"\1{ways}\n\n", text, count=1, flags=re.S)
