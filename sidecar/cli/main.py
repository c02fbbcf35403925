"""Entry point of the command: dispatches to the groups, and maps failures to exit statuses.

0: success. 1: failure. 2: wrong usage or configuration. There is no traceback unless
``SIDECAR_DEBUG=1`` is set, and that one shows lines of code but no message and no values.
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
"""Imported modules are never garbage; with Python's default, scanning them again and again takes a
fifteenth of the start-up time. ``runtime.run`` sets its own threshold for serving."""

_GROUPS = (run, demo, check, explain, token, store, account, key, throttle, schema, healthcheck)


class Parser(argparse.ArgumentParser):
    """An argument parser that never echoes a long word, which may be a misplaced token."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        super().error(re.sub(r"[^\s'\",:]{16,}", "…", message))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (default: the process's arguments); return the exit status."""
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
        description="Run an authenticating reverse proxy, and manage its tokens and accounts.",
        epilog="Exit status: 0 success, 1 failure, 2 wrong usage or configuration.",
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
    """Redirect standard output to nowhere, so that the interpreter's last flush is silent too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _describe(error: Exception) -> str:
    """Say what broke and where, without the exception's message, which may hold a secret."""
    if os.environ.get("SIDECAR_DEBUG") == "1":
        return "".join([*traceback.format_tb(error.__traceback__), type(error).__name__])
    return f"internal error: {error_location(error)} (SIDECAR_DEBUG=1 shows the traceback)"
