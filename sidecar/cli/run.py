"""``sidecar run``: runs the proxy, the portal and the operations listener until a signal."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sidecar.cli.options import Subparsers, add_config, find_config, load_settings
from sidecar.workers.held_signals import hold_from_the_start

if TYPE_CHECKING:
    from sidecar.config.warnings import ConfigurationWarning

_EXAMPLES = (
    "sidecar run",
    "sidecar run --config /etc/sidecar/sidecar.yaml",
    "SIDECAR_CONFIG=/etc/sidecar/sidecar.yaml sidecar run",
)


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run the proxy, with the portal and operations listeners if configured",
        description="Run the proxy, with the portal and operations listeners if configured. "
        "SIGTERM and SIGINT let running requests finish, then stop it. The configuration is "
        "reloaded when the file changes, and on SIGHUP. SIGUSR1 reopens the access log. SIGUSR2 "
        "upgrades to the newly installed program without dropping connections.",
        examples=_EXAMPLES,
    )
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    hold_from_the_start()  # unless ``sidecar.__main__`` does so already
    warnings: list[ConfigurationWarning] = []
    settings = load_settings(arguments, warnings.append)
    from sidecar.runtime.run import run

    return run(settings, find_config(arguments), warnings)
