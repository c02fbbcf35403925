"""The command's front door: which group answers, and what exit status a failure has.

0: done. 1: it failed. 2: it was asked wrongly, or the configuration is wrong. Never a traceback,
unless ``SIDECAR_DEBUG=1`` asks for one; that one shows where, not with which values.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import sidecar
from sidecar.cli import (
    account,
    check,
    demo,
    explain,
    healthcheck,
    key,
    run,
    schema,
    store,
    throttle,
    token,
)
from sidecar.core.error_location import error_location
from sidecar.core.errors import ConfigurationError, Fault, UsageError

DONE, FAILED, MISUSED = 0, 1, 2

_COLLECTOR_THRESHOLD = 50_000
"""What is imported stays: with Python's own, looking through it again and again is a fifteenth of
a start. What serves sets its own (``runtime.run``)."""

_GROUPS = (run, demo, check, explain, token, store, account, key, throttle, schema, healthcheck)


class Parser(argparse.ArgumentParser):
    """An argument parser that never repeats a long word: it may be a token in the wrong place."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with status 2."""
        super().error(re.sub(r"[^\s'\",:]{16,}", "…", message))


def main(argv: Sequence[str] | None = None) -> int:
    """Run what ``argv`` (default: the process's arguments) asks for; return the exit status."""
    gc.set_threshold(_COLLECTOR_THRESHOLD)
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except ConfigurationError as error:
        return _end(MISUSED, *error.problems)
    except UsageError as error:
        return _end(MISUSED, f"sidecar: {error}")
    except Fault as fault:
        return _end(FAILED, f"sidecar: {fault.code}: {fault}")
    except BrokenPipeError:
        return _end_without_reader()
    except OSError as error:
        return _end(FAILED, f"sidecar: {error}")
    except KeyboardInterrupt:
        return _end(FAILED, "sidecar: interrupted")
    except Exception as error:
        return _end(FAILED, f"sidecar: {_describe(error)}")


def _parser() -> Parser:
    parser = Parser(
        prog="sidecar",
        description="An authenticating reverse proxy, and the tokens that it lets through.",
        epilog="Exit status: 0 done, 1 failed, 2 usage or configuration.",
    )
    parser.add_argument("--version", action="version", version=f"sidecar {sidecar.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in _GROUPS:
        group.add_to(commands)
    return parser


def _end(status: int, *lines: str) -> int:
    for line in lines:
        print(line, file=sys.stderr)
    return status


def _end_without_reader() -> int:
    """Point standard output at nothing, so that the interpreter's last flush is silent as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _describe(error: Exception) -> str:
    """Say what broke and where, without the exception's own words: they may hold a secret."""
    if os.environ.get("SIDECAR_DEBUG") == "1":
        return "".join([*traceback.format_tb(error.__traceback__), type(error).__name__])
    return f"internal error: {error_location(error)} (SIDECAR_DEBUG=1 shows the way)"
