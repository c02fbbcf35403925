"""Entry point of the command: dispatches to the groups, and maps failures to exit statuses.

0: success. 1: failure. 2: wrong usage or configuration. There is no traceback unless
``SIDECAR_DEBUG=1`` is set, and that one shows lines of code but no message and no values.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback
from collections.abc import Sequence

from sidecar.cli import (
    account,
    check,
    completion,
    demo,
    explain,
    healthcheck,
    init,
    key,
    manual,
    run,
    schema,
    store,
    throttle,
    token,
)
from sidecar.cli.arguments import Parser, accept_anywhere, command_of, has_option
from sidecar.cli.color import paint_problem
from sidecar.cli.standard_streams import (
    WRITING_FAILED,
    give_up_on_output,
    print_every_letter,
    was_closed,
)
from sidecar.core.error_location import error_location
from sidecar.core.errors import ConfigurationError, Fault, UsageError
from sidecar.core.os_errors import reason_of
from sidecar.program import describe_program

DONE, FAILED, MISUSED = 0, 1, 2

_COLLECTOR_THRESHOLD = 50_000
"""Imported modules are never garbage; with Python's default, scanning them again and again takes a
fifteenth of the start-up time. ``runtime.run`` sets its own threshold for serving."""

_ADVICE = {
    errno.ENOENT: "; create it, or correct the path",
    errno.EACCES: f"; let user {os.geteuid()} use it",
    errno.EISDIR: "; name a file in it",
    errno.ENOTDIR: "; a part of the path is a file, not a directory",
}
_MAKING = frozenset({"create", "rotate"})
_GROUPS = (
    *(init, demo, check, run, token, account, explain),
    *(store, throttle, key, healthcheck, schema, completion, manual),
)
"""In the order in which someone new needs them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (default: the process's arguments); return the exit status."""
    gc.set_threshold(_COLLECTOR_THRESHOLD)
    print_every_letter()
    words = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    try:
        arguments = parser.parse_args(words)
        if arguments.json and not has_option(parser, words, "--json"):
            parser.error("this command prints no JSON; leave --json out")
        if was_closed("stdout"):
            _refuse_to_print_nowhere(words)
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
        give_up_on_output()
        return FAILED
    except OSError as error:
        return _end(FAILED, f"sidecar: {_describe_os_error(error, words)}")
    except KeyboardInterrupt:
        return _end(FAILED, "sidecar: interrupted")
    except Exception as error:
        return _end(FAILED, f"sidecar: {_describe(error)}")


def _refuse_to_print_nowhere(words: Sequence[str]) -> None:
    """Raise ``UsageError`` unless the command has nothing to print, before it does anything."""
    command = command_of(words)
    if command == "run":
        print(
            "sidecar: standard output is closed: an access log that goes there is lost",
            file=sys.stderr,
        )
    elif command != "healthcheck":
        raise UsageError(
            "standard output is closed, so nothing can be printed, and nothing was done; to throw "
            "the result away, write >/dev/null"
        )


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="sidecar",
        description="Run an authenticating reverse proxy, and manage its tokens and accounts.",
        epilog="Exit status: 0 success, 1 failure, 2 wrong usage or configuration.",
    )
    parser.add_argument("--version", action="version", version=f"sidecar {describe_program()}")
    commands = parser.add_commands("COMMAND")
    for group in _GROUPS:
        group.add_to(commands)
    accept_anywhere(parser)
    parser.set_defaults(parser=parser)  # for the commands that describe all of them
    return parser


def _end(status: int, *lines: str) -> int:
    for line in lines:
        print(paint_problem(line, sys.stderr), file=sys.stderr)
    return status


def _describe_os_error(error: OSError, words: Sequence[str]) -> str:
    """Say which file is meant and what went wrong with it, and what to do where that is known."""
    if error.filename is None and error.errno in WRITING_FAILED:
        give_up_on_output()
        lost = "" if _MAKING.isdisjoint(words) else "; revoke what was made: it is not shown again"
        return f"standard output can't be written ({reason_of(error)}): some of it is lost{lost}"
    place = "" if error.filename is None else f"{_shown(error.filename)}: "
    advice = _ADVICE.get(error.errno or 0, "")
    return f"{place}{reason_of(error)}{advice if place else ''}"


def _shown(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, str | bytes) else str(filename)


def _describe(error: Exception) -> str:
    """Say what broke and where, without the exception's message, which may hold a secret."""
    if os.environ.get("SIDECAR_DEBUG") == "1":
        return "".join([*traceback.format_tb(error.__traceback__), type(error).__name__])
    return f"internal error: {error_location(error)} (SIDECAR_DEBUG=1 shows the traceback)"
