"""``sidecar key``: generates keys that sign JWTs and assertions."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime

from sidecar.cli.options import Subparsers, add_config, add_json, print_json
from sidecar.core.errors import UsageError

_is_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch  # as the configuration has it

_EXAMPLES = (
    "sidecar key generate >keys/k1.pem",
    "sidecar key generate --algorithm ES256 --id k2",
    "sidecar key generate --json",
)


def add_to(commands: Subparsers) -> None:
    """Add the group."""
    group = commands.add_parser(
        "key",
        help="generate a key that signs JWTs",
        description="Generate the keys of jwt.keys, which sign JWTs and assertions.",
    )
    actions = group.add_commands("ACTION")
    parser = actions.add_parser(
        "generate",
        help="print a new private key",
        description="Generate a key for jwt.keys. Standard output gets the key alone (PEM, or a "
        "secret for HS256), standard error the lines to add to the configuration.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--algorithm",
        metavar="NAME",
        default="EdDSA",
        help="EdDSA, ES256, RS256, PS256 or HS256 (default: EdDSA)",
    )
    parser.add_argument(
        "--id", metavar="ID", help="the key's id, its kid in JWTs (default: k and today's date)"
    )
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=_generate)


def _generate(arguments: argparse.Namespace) -> int:
    from sidecar.core.key_documents import load_key
    from sidecar.core.keys import generate_key

    algorithm, key_id = arguments.algorithm, arguments.id or _todays_id()
    if not _is_id(key_id):
        raise UsageError("--id takes 1 to 64 of A-Z a-z 0-9 . _ -")
    try:
        text = generate_key(algorithm)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if arguments.json:
        key = load_key(key_id, algorithm, text)
        public = None if key.is_secret else key.publish()
        made = {"id": key_id, "algorithm": algorithm, "private_key": text, "public_jwk": public}
        print_json(made)
        return 0
    print(text, end="")
    print(_advise(key_id, algorithm), file=sys.stderr)
    return 0


def _todays_id() -> str:
    return datetime.now(UTC).strftime("k%Y%m%d")


def _advise(key_id: str, algorithm: str) -> str:
    """Return the lines to paste; the name of the file is a suggestion."""
    file = f"keys/{key_id}.{'txt' if algorithm == 'HS256' else 'pem'}"
    return f"""\
# Store the key in a file that only the sidecar can read, such as {file} beside the configuration:
jwt:
  keys:                      # the first key signs, all of them verify
    - id: {key_id}
      algorithm: {algorithm}
      private_key: ${{file:{file}}}"""
