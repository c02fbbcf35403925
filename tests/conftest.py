"""What all tests share: Hypothesis profiles, and no skipped test where the gate runs."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

IS_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# No deadline: two busy cores make any one example slow now and then, which says nothing.
settings.register_profile("default", deadline=None, max_examples=30)
settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True)
settings.register_profile(
    "fuzz", deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if IS_CI else "default")


LONGEST_ID_CHARS = 60


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long or random-looking value by its argument: workers must agree on a test's name."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_ID_CHARS:
        return argname
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what was collected out of the search for garbage: a million parts that stay."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped for a missing part when ``CI`` is set: the gate installs every part."""
    report = yield
    if IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which the gate does not allow: {report.longrepr}"
    return report
