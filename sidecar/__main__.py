"""``python -m sidecar`` and the ``sidecar`` command start here.

The commands that serve hold their signals before anything else is imported.
"""

import sys

from sidecar.workers.held_signals import hold_from_the_start

_SERVING = ("run", "demo")


def main() -> int:
    """Run the command that the arguments name; return the exit status."""
    if sys.argv[1:2] and sys.argv[1] in _SERVING:
        hold_from_the_start()
    from sidecar.cli.main import main as run_command

    return run_command()


if __name__ == "__main__":
    raise SystemExit(main())
