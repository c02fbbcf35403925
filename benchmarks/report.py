"""The results of a run: a Markdown table, and JSON with every single figure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks import versions
from benchmarks.figures import Quartiles, Spread, ratios
from benchmarks.measure import METRICS, Sample
from benchmarks.rounds import Outcome
from benchmarks.scenarios import OLD
from benchmarks.stage import Settings

NOTHING = "–"
OF_PAIRS = ("cpu_us", "rate")
"""The metrics compared with the old tree, if a scenario measures both; and always its own."""


def table(outcome: Outcome) -> str:
    """Return the outcome as a Markdown table, followed by what was skipped or failed."""
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
    lines += _pairs_table(outcome)
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
        "pairs": {
            label: {key: asdict(quartiles) for key, quartiles in pair.items()}
            for label, pair in pairs(outcome).items()
        },
        "left_out": outcome.left_out,
        "failed": outcome.failed,
    }


def pairs(outcome: Outcome) -> dict[str, dict[str, Quartiles]]:
    """Return ours ÷ the old tree's for each pair of runs, by label and metric."""
    samples = outcome.samples
    return {
        label: {
            key: Quartiles.of(values)
            for key in _keys_of_pairs(outcome)
            if (values := ratios(_values(ours, key), _values(samples[label + OLD], key)))
        }
        for label, ours in samples.items()
        if label + OLD in samples
    }


def circumstances(settings: Settings) -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, code and scale."""
    amounts = asdict(settings)
    del amounts["tree"], amounts["old"]
    return {
        "machine": versions.machine(),
        "versions": versions.installed(),
        "tree": str(settings.tree),
        "old": str(settings.old) if settings.old else None,
        "settings": amounts,
    }


def heading(found: dict[str, Any]) -> str:
    """Return the circumstances as a heading for the tables."""
    pairs = [*found["machine"].items(), *found["versions"].items()]
    rounds, seconds = found["settings"]["rounds"], found["settings"]["seconds"]
    said = ", ".join(f"{name} {value}" for name, value in pairs)
    lines = [f"{rounds} rounds of {seconds} s; {said}", f"ours: {found['tree']}"]
    if found["old"]:
        lines.append(f"old: {found['old']}")
    return "\n\n".join(lines) + "\n"


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
    found = ratios(*(_values(outcome.samples[name], key) for name in (subject, label)))
    return Spread.of(found) if found else None


def _values(samples: list[Sample], key: str) -> list[float]:
    return [sample[key] for sample in samples if key in sample]


def _keys_of_pairs(outcome: Outcome) -> tuple[str, ...]:
    scenario = outcome.scenario
    keys = OF_PAIRS if set(OF_PAIRS) <= set(scenario.columns) else ()
    return keys if scenario.compared in keys else (*keys, scenario.compared)


def _pairs_table(outcome: Outcome) -> list[str]:
    found = pairs(outcome)
    if not found:
        return []
    keys = _keys_of_pairs(outcome)
    rows = [["ours ÷ old", "pairs of runs", *(METRICS[key].title for key in keys)]]
    for label, pair in found.items():
        counts = {str(quartiles.count) for quartiles in pair.values()}
        rows.append([label, "/".join(counts), *(_quartiles_text(pair.get(key)) for key in keys)])
    return ["", "Of each pair of runs, the median (and quartiles):", "", *_aligned(rows)]


def _quartiles_text(found: Quartiles | None) -> str:
    if found is None:
        return NOTHING
    return f"{found.median:.3f} ({found.lower:.3f}–{found.upper:.3f})"


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
