"""The command line: ``python -m benchmarks [--only hit,miss] [--peers sidecar,nginx] ...``.

``--old DIR`` compares two versions of the code in alternating runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import plots, report, trees
from benchmarks.peers.registry import PEERS
from benchmarks.processes import UnavailableError
from benchmarks.rounds import Outcome, carry_out
from benchmarks.scenarios.registry import SCENARIOS
from benchmarks.stage import Settings

RESULTS = Path(__file__).with_name("results")
ROUNDS_OF_PAIRS = 9


def parse_arguments(given: list[str]) -> argparse.Namespace:
    """Parse the options; an unknown name ends the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the sidecar beside its peers on this machine, in alternating runs.",
    )
    parser.add_argument("--only", type=_names(SCENARIOS), default=tuple(SCENARIOS), metavar="A,B",
                        help=f"scenarios: {', '.join(SCENARIOS)} (default: all)")  # fmt: skip
    parser.add_argument("--peers", type=_names(PEERS), metavar="A,B",
                        help=f"peers: {', '.join(PEERS)} (default: all installed; with --old:"
                             " sidecar)")  # fmt: skip
    parser.add_argument("--old", type=Path, metavar="DIRECTORY",
                        help="a checkout of another state: run it beside this one, and say how the"
                             " two compare")  # fmt: skip
    parser.add_argument("--rounds", "--runs", type=_positive, metavar="N",
                        help=f"rounds (default: 7; with --old: {ROUNDS_OF_PAIRS})")  # fmt: skip
    parser.add_argument("--seconds", type=_positive, help="length of one measurement (default: 5)")
    parser.add_argument("--check", action="store_true",
                        help="tiny amounts: does the bench itself work?")  # fmt: skip
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="write charts there")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help="the JSON file (default: benchmarks/results/TIME.json)")  # fmt: skip
    return parser.parse_args(given)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the scale that the options ask for.

    Raises ``UnavailableError`` if the old tree can't be compared with this one.
    """
    settings = Settings.tiny() if arguments.check else Settings()
    if arguments.old is not None:
        ours, old = trees.match(settings.tree, trees.find(arguments.old))
        rounds = settings.rounds if arguments.check else ROUNDS_OF_PAIRS
        settings = replace(settings, tree=ours, old=old, peers=("sidecar",), rounds=rounds)
    return replace(
        settings,
        peers=arguments.peers or settings.peers,
        rounds=arguments.rounds or settings.rounds,
        seconds=arguments.seconds or settings.seconds,
    )


def main(given: list[str]) -> int:
    """Run, print and save; the status is 1 if any case failed."""
    arguments = parse_arguments(given)
    try:
        settings = settings_of(arguments)
        output = prepare_places(arguments.output, arguments.plots)
    except UnavailableError as reason:
        _say(f"nothing was measured: {reason}")
        return 2
    except OSError as error:
        _say(f"nothing was measured, as the results could not be written: {error}")
        return 2
    _prepare_process()
    found = report.circumstances(settings)
    print(report.heading(found), flush=True)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx workers may be another user
        try:
            for scenario in arguments.only:
                place = directory / scenario
                outcomes.append(carry_out(SCENARIOS[scenario], place, settings, _say))
                print(report.table(outcomes[-1]), flush=True)
                _save(found, outcomes, output)
        except UnavailableError as reason:
            _say(f"the bench can't be run: {reason}")
            return 1
    _say(f"saved: {output}")
    if arguments.plots:
        _draw(outcomes, arguments.plots)
    return int(any(outcome.failed for outcome in outcomes))


def prepare_places(output: Path | None, plots_directory: Path | None) -> Path:
    """Create the output directories; return the path of the JSON file.

    Raises ``OSError`` if they cannot be written to: better now than after an hour of measuring.
    """
    if plots_directory is not None:
        plots_directory.mkdir(parents=True, exist_ok=True)
    path = output or RESULTS / f"{time.strftime('%Y-%m-%dT%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("a").close()
    if not path.stat().st_size:
        path.unlink()
    return path


def _prepare_process() -> None:
    """Raise the limit of open files; have SIGTERM stop everything that was started."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _names(known: Mapping[str, object]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser for a comma-separated list of known names."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(
                f"no {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return names

    return parse


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _save(found: dict[str, Any], outcomes: list[Outcome], path: Path) -> None:
    results = {**found, "outcomes": list(map(report.as_json, outcomes))}
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def _draw(outcomes: list[Outcome], directory: Path) -> None:
    for outcome in outcomes:
        if outcome.samples:
            try:
                _say(f"drawn: {plots.draw(outcome, directory)}")
            except UnavailableError as reason:
                _say(f"not drawn: {reason}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
