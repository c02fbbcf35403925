"""Bar charts of a run for the docs: ``--plots DIRECTORY``, with matplotlib (extra ``bench``)."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from benchmarks.figures import Spread
from benchmarks.measure import METRICS
from benchmarks.processes import UnavailableError
from benchmarks.rounds import Outcome

OURS_COLOUR, OTHERS_COLOUR = "#c2570c", "#8a94a6"


def draw(outcome: Outcome, directory: Path) -> Path:
    """Write a chart of the compared figure. Raises ``UnavailableError`` without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("matplotlib is not installed (the bench extra brings it)")
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "auth-sidecar"
    pyplot = importlib.import_module("matplotlib.pyplot")
    spreads = _spreads(outcome)
    labels = list(spreads)[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(labels) + 1.2))
    axes.barh(
        labels,
        [spreads[label].median for label in labels],
        xerr=list(zip(*(_whiskers(spreads[label]) for label in labels), strict=True)),
        color=[OURS_COLOUR if _is_ours(label) else OTHERS_COLOUR for label in labels],
        capsize=3,
    )
    axes.set_xlabel(f"{METRICS[outcome.scenario.compared].title} (median, least to most)")
    axes.set_title(outcome.scenario.title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path = directory / f"performance-{outcome.scenario.name}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _spreads(outcome: Outcome) -> dict[str, Spread]:
    key = outcome.scenario.compared
    return {
        label: Spread.of([sample[key] for sample in samples])
        for label, samples in outcome.samples.items()
    }


def _whiskers(spread: Spread) -> tuple[float, float]:
    return spread.median - spread.least, spread.most - spread.median


def _is_ours(label: str) -> bool:
    return label.startswith("the sidecar")
