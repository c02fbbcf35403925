"""docs/reference/errors.md and the table in the code are one table."""

from __future__ import annotations

import re
from pathlib import Path

from sidecar.core.problems import PROBLEM_TYPES, PROXY_CODES

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.M)


def test_every_code_is_documented_with_its_status_and_title() -> None:
    documented = {code: (int(status), title) for status, code, title, _, _ in ROW.findall(PAGE)}
    assert documented == {
        code: (PROBLEM_TYPES[code].status, PROBLEM_TYPES[code].title) for code in PROXY_CODES
    }


def test_the_page_keeps_the_order_of_the_statuses() -> None:
    statuses = [int(status) for status, *_ in ROW.findall(PAGE)]
    assert statuses == sorted(statuses)


def test_a_retry_after_is_documented_where_it_is_sent() -> None:
    told = {code for _, code, _, when, _ in ROW.findall(PAGE) if "Retry-After" in when}
    assert told == {
        code for code in PROXY_CODES if PROBLEM_TYPES[code].retry_after_seconds is not None
    }
