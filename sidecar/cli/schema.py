"""``sidecar schema``: prints the schema by which editors complete and check the configuration."""

from __future__ import annotations

import argparse

from sidecar.cli.options import Subparsers, print_json

_EXAMPLES = (
    "sidecar schema",
    "sidecar schema >sidecar.schema.json",
)


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "schema",
        help="print the configuration's JSON Schema",
        description="Print the JSON Schema of the configuration file, for editors and tools.",
        examples=_EXAMPLES,
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from sidecar.config.schema import json_schema

    print_json(json_schema())
    return 0
