"""What the log says about an unexpected exception: its type and line, and nothing more."""

from __future__ import annotations

import asyncio
import logging

import pytest

from sidecar.core.error_location import error_location
from sidecar.observability.fault_log import log_unhandled
from sidecar.observability.stderr_log import StderrFormatter

SECRET = "sct_secret"


def fail(secret: str) -> None:
    raise ValueError(f"can't take {secret}")


def failure() -> ValueError:
    with pytest.raises(ValueError, match=SECRET) as raised:
        fail(SECRET)
    return raised.value


def test_an_exception_is_described_by_its_type_and_line() -> None:
    line = fail.__code__.co_firstlineno + 1

    assert error_location(failure()) == f"ValueError at test_error_location.py:{line}"


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert error_location(KeyError(SECRET)) == "KeyError"


def test_a_library_that_logs_an_exception_gets_a_line_without_its_words() -> None:
    error = failure()
    record = logging.LogRecord(
        "a.library", logging.ERROR, __file__, 1, "it failed", None, (type(error), error, None)
    )

    told = StderrFormatter("%(levelname)s %(message)s").format(record)

    assert told == f"ERROR it failed\n{error_location(error)}"


def test_a_log_record_with_empty_exception_information_is_logged() -> None:
    record = logging.LogRecord(
        "a.library", logging.ERROR, __file__, 1, "it failed", None, (None, None, None)
    )

    assert StderrFormatter("%(message)s").format(record).strip() == "it failed"


async def test_a_failed_callback_is_logged_without_its_arguments(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_unhandled)

    loop.call_soon(fail, SECRET)
    await asyncio.sleep(0)

    assert "unexpected error: ValueError at test_error_location.py:" in caplog.text
    assert SECRET not in caplog.text


async def test_a_message_of_the_loop_without_an_exception_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_unhandled(asyncio.get_running_loop(), {"message": "it is too late"})

    assert "unexpected error: it is too late" in caplog.text
