"""What a run found: a table to read, in Markdown, and a JSON value with every single figure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks import versions
from benchmarks.figures import Spread, ratios
from benchmarks.measure import METRICS
from benchmarks.rounds import Outcome
from benchmarks.stage import Settings

NOTHING = "–"


def table(outcome: Outcome) -> str:
    """Return the outcome as a Markdown table, with what was left out or failed below it."""
    scenario = outcome.scenario
    subjects = [label for label in scenario.subjects if label in outcome.samples]
    titles = ["", *(METRICS[key].title for key in scenario.columns)]
    titles += [f"{subject} ÷ this" for subject in subjects]
    rows = [
        [label, *_figures(outcome, label), *_ratios(outcome, label, subjects)]
        for label in outcome.samples
    ]
    compared = METRICS[scenario.compared].title
    lines = [f"### {scenario.name}: {scenario.title}", "", f"Ratios are of {compared}.", ""]
    lines += _aligned([titles, *rows]) if rows else ["Nothing was measured."]
    lines += [f"- left out: {label}: {why}" for label, why in outcome.left_out.items()]
    lines += [f"- FAILED: {label}: {why}" for label, why in outcome.failed.items()]
    return "\n".join(lines) + "\n"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return every sample of an outcome, with the ratios formed from them."""
    scenario = outcome.scenario
    return {
        "scenario": scenario.name,
        "title": scenario.title,
        "compared": scenario.compared,
        "samples": outcome.samples,
        "ratios": {
            subject: {
                label: _plain(spread)
                for label in outcome.samples
                if label != subject and (spread := _ratio(outcome, subject, label))
            }
            for subject in scenario.subjects
            if subject in outcome.samples
        },
        "left_out": outcome.left_out,
        "failed": outcome.failed,
    }


def circumstances(settings: Settings) -> dict[str, Any]:
    """Return what the figures depend on: the machine, the versions, the amounts."""
    return {
        "machine": versions.machine(),
        "versions": versions.installed(),
        "settings": asdict(settings),
    }


def heading(found: dict[str, Any]) -> str:
    """Return the circumstances as one line for above the tables."""
    pairs = [*found["machine"].items(), *found["versions"].items()]
    rounds, seconds = found["settings"]["rounds"], found["settings"]["seconds"]
    said = ", ".join(f"{name} {value}" for name, value in pairs)
    return f"{rounds} rounds of {seconds} s; {said}\n"


def _figures(outcome: Outcome, label: str) -> list[str]:
    return [_shown(outcome, label, key) for key in outcome.scenario.columns]


def _shown(outcome: Outcome, label: str, key: str) -> str:
    values = [sample[key] for sample in outcome.samples[label] if key in sample]
    return _spread_text(Spread.of(values), METRICS[key].decimals) if values else NOTHING


def _ratios(outcome: Outcome, label: str, subjects: list[str]) -> list[str]:
    spreads = [_ratio(outcome, subject, label) for subject in subjects]
    return [
        _spread_text(spread, 2) if spread and subject != label else NOTHING
        for subject, spread in zip(subjects, spreads, strict=True)
    ]


def _ratio(outcome: Outcome, subject: str, label: str) -> Spread | None:
    key = outcome.scenario.compared
    ours, theirs = ([sample[key] for sample in outcome.samples[name]] for name in (subject, label))
    return ratios(ours, theirs)


def _spread_text(spread: Spread, decimals: int) -> str:
    middle, least, most = (
        f"{value:,.{decimals}f}".replace(",", " ")
        for value in (spread.median, spread.least, spread.most)
    )
    return middle if least == most else f"{middle} ({least}–{most})"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    titles, *rest = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [titles, rule, *rest]


def _plain(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "least": spread.least, "most": spread.most}
