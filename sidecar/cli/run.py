"""``sidecar run``: the proxy and the operations listener, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse

from sidecar.cli.options import Subparsers, add_config, find_config, load_settings
from sidecar.workers.held_signals import hold_from_the_start


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run the proxy and the operations listener",
        description="Run the proxy and the operations listener. SIGTERM finishes what runs, "
        "then ends it; the file is read again when it changes, and on SIGHUP; SIGUSR1 opens the "
        "access log anew; SIGUSR2 upgrades to the program that is installed by then.",
    )
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    hold_from_the_start()  # unless ``sidecar.__main__`` does so already
    settings = load_settings(arguments)
    from sidecar.runtime.run import run

    return run(settings, find_config(arguments))
