"""The ``sidecar`` command without its start-up: a process that has loaded it forks for each call.

Starting Python and importing takes half a second: it is not part of a revocation, and would make
five hundred trials take minutes. The process reads one JSON array of arguments per line from
standard input, and answers each with the exit status of the command.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from benchmarks.processes import BenchError

_ROOT = Path(__file__).resolve().parents[2]


class ForkedCommand:
    """A context manager; ``configuration`` is the file that every call uses."""

    def __init__(self, configuration: Path) -> None:
        self._command = [sys.executable, "-m", __name__, str(configuration)]

    def __enter__(self) -> ForkedCommand:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def run(self, *arguments: str) -> None:
        """Run a command to its end. Raises ``BenchError`` if it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(arguments) + "\n")
            self._process.stdin.flush()
        if (status := self._process.stdout.readline().strip()) != "0":
            raise BenchError(f"sidecar {' '.join(arguments)}: exit status {status or 'none'}")


def serve(configuration: str) -> None:
    """Run one command, so that everything is loaded; then fork for each line of input."""
    from sidecar.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()):
        main(["token", "list", "--config", configuration])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            os._exit(main([*json.loads(line), "--config", configuration]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
