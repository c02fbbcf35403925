"""Origins are kept as browsers send them."""

from __future__ import annotations

import pytest

from sidecar.config.diagnostics import Rejected
from sidecar.config.origins import parse_origin


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://shop.example", "https://shop.example"),
        ("HTTPS://Shop.Example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://*.Shop.example:8443", "https://*.shop.example:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("moz-extension://0b1c", "moz-extension://0b1c"),
        ("*", "*"),
        ("null", "null"),
    ],
)
def test_an_origin_is_kept_in_lower_case_without_a_default_port(written: str, origin: str) -> None:
    assert parse_origin(written) == origin


@pytest.mark.parametrize(
    "written",
    [
        *["", "shop.example", "https://", "https:/shop", "https://a.b/", "https://a.b/x"],
        *["https://a b", "https://u@a.b", "https://a.b:x", "https://a.b:123456", "https://*"],
        *["https://*a.b", "**", "https://a.*.b", "https://a..b", "https://.a", "NULL"],
        *["https://a.b\n", "https://ä.b"],
    ],
)
def test_what_no_browser_sends_is_refused(written: str) -> None:
    with pytest.raises(Rejected):
        parse_origin(written)
