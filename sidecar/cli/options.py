"""Options that many commands share: ``--config`` and ``--json``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.cli.progress import activity
from sidecar.core.errors import UsageError

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.config.warnings import ConfigurationWarning

Subparsers = Any
"""What ``add_subparsers`` returns; argparse keeps its type to itself."""

DEFAULT_FILES = (
    Path("sidecar.yaml"),
    Path("config/sidecar.yaml"),
    Path("/etc/sidecar/sidecar.yaml"),
)


def first_sentence(about: str) -> str:
    """Return the help of a command in its group, of the description that it has itself."""
    sentence = about.partition(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the configuration file (default: $SIDECAR_CONFIG, else "
        f"{', else '.join(map(str, DEFAULT_FILES))})",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def find_config(arguments: argparse.Namespace) -> Path:
    """Return the file named by ``--config``, the environment or the defaults, in that order."""
    named = arguments.config or os.environ.get("SIDECAR_CONFIG")
    if named:
        return Path(named)
    for path in DEFAULT_FILES:
        if path.exists():
            return path
    raise UsageError(
        f"no configuration: neither {' nor '.join(map(str, DEFAULT_FILES))} exists; name one with "
        "--config FILE or $SIDECAR_CONFIG, write one with `sidecar init`, or try `sidecar demo`, "
        "which needs none"
    )


def load_settings(
    arguments: argparse.Namespace, warn: Callable[[ConfigurationWarning], None] | None = None
) -> Settings:
    """Return the checked configuration; raise ``ConfigurationError`` with every mistake in it.

    ``warn`` is called with each warning about it.
    """
    from sidecar.config.load import load

    with activity("read the configuration"):
        return load(find_config(arguments), os.environ, warn=warn)


def print_json(value: object) -> None:
    """Print a value as indented JSON, in ASCII alone where the terminal takes nothing else."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text)
