"""``python -m sidecar`` and the ``sidecar`` command start here.

Closed standard streams are opened, and the commands that serve hold their signals, before anything
else is imported.
"""

import sys

from sidecar.cli.standard_streams import open_closed
from sidecar.workers.held_signals import hold_from_the_start

_SERVING = ("run", "demo")


def main() -> int:
    """Run the command that the arguments name; return the exit status."""
    open_closed()
    if not set(_SERVING).isdisjoint(sys.argv[1:4]):
        hold_from_the_start()
    from sidecar.cli.main import main as run_command

    return run_command()


if __name__ == "__main__":
    raise SystemExit(main())
