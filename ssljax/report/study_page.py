"""The page of a study."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.report import (
    budgets,
    charts,
    classes,
    difference_tables,
    document,
    probe_tables,
    tables,
)
from ssljax.report.budgets import Budget
from ssljax.report.thumbnails import Sheet
from ssljax.studies.differences import is_noise
from ssljax.studies.results import failed_arms


def render(
    results: dict[str, Any],
    confusions: Mapping[str, np.ndarray],
    sheets: Sequence[Sheet],
    run_pages: Collection[str] = (),
    costs: Mapping[str, Budget] | None = None,
    features: Sequence[str] = (),
) -> str:
    """Renders the page.

    Args:
      results: as in results.json, see `ssljax.studies.results.collect`.
      confusions: of the arms, see `ssljax.studies.results.confusions`.
      sheets: of images.
      run_pages: the runs that have a page, such as `seed-0/arm-NAME`.
      costs: see `ssljax.report.budgets.section`.
      features: what they see, see `ssljax.report.what_features_see.of_models`.
    """
    parts = [
        f"<h1>{document.name(results['dataset'])}: does the pretext task help?</h1>",
        f"<p>{document.text(verdict(results))}</p>",
        "<h2>Test accuracy</h2>",
        tables.arms(results),
        tables.failures(results),
        *(f'<p class="bad">{document.text(remark)}</p>' for remark in results.get("remarks", ())),
        *_missing(results),
        document.row([charts.arms(results)]),
        *probe_tables.section(results),
        *difference_tables.section(results),
        *_comparisons(results),
        *budgets.section(results, costs or {}),
        "<h2>Classification, by epoch</h2>",
        document.row(charts.classification(results)),
        "<h2>Classification, by class</h2>",
        classes.section(results, confusions),
    ]
    if results["pretexts"]:
        parts += ["<h2>Pretext tasks</h2>", tables.pretexts(results)]
        parts.append(document.row(charts.pretexts(results)))
    parts += features
    parts += map(document.sheet, sheets)
    parts.append(tables.runs(results, run_pages))
    parts += [
        "<h2>Settings</h2>",
        document.details("Config", results["config"]),
        document.details("Environment", results["environment"]),
    ]
    return document.document(f"ssljax study: {results['dataset']}", parts)


def _missing(results: dict[str, Any]) -> list[str]:
    names = results.get("missing")
    if not names:
        return []
    said = f"{len(names)} runs are not finished. This page is about the others."
    return [f'<p class="bad">{said}</p>', document.details("Runs that are not finished", names)]


def verdict(results: dict[str, Any]) -> str:
    """A part for each pretext arm, against the random one at the same share of the labels."""
    starts = [arm["start"] for arm in results["arms"].values()]
    if "random" not in starts:
        return "There is no arm from random weights to compare with."
    found: dict[str, list[Mapping[str, Any]]] = {}
    counts = set()
    for row in results["differences"]:
        if row["protocol"] == "labels" and row["is_floor"]:
            found.setdefault(row["name"], []).append(row)
            counts.add(row["seeds"])
    sentences = [_compared(name, rows, results["metric"]) for name, rows in found.items()]
    sentences += [f"{name} failed" for name in failed_arms(results)]
    if not sentences and set(starts) == {"random"}:
        return "Only random weights were trained."
    if not sentences:
        return "No arm has a share of the labels and a seed in common with random weights."
    fewest, most = min(counts, default=1), max(counts, default=1)
    sample = "one seed; the interval is that of the test images alone"
    if most > 1:
        seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
        sample = f"{seeds} seeds; the interval is that of seeds and test images"
    return f"{'; '.join(sentences)} ({sample})."


def _compared(name: str, rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """What is said of an arm at its largest and, if there are several, its smallest share."""
    ordered = sorted(rows, key=lambda row: -row["label_fraction"])
    most, points = ordered[0], 100 * ordered[0]["difference"]
    how = "above" if points >= 0 else "below"
    text = f"{name} ends {abs(points):.1f} points {how} random weights in {tables.label(metric)}"
    if most["label_fraction"] < 1:
        text += f" with {100 * most['label_fraction']:g} % of the labels"
    noise = ", which may be noise" if is_noise(most) else ""
    text += f"{noise} (95 % interval {difference_tables.ends(most)}"
    for row in ordered[1:][-1:]:
        share = f"{100 * row['label_fraction']:g} % of the labels"
        text += f"; with {share} {100 * row['difference']:+.1f}, {difference_tables.ends(row)}"
    return text + ")"


def _comparisons(results: dict[str, Any]) -> list[str]:
    """What only larger studies have: shares of the labels, settings, and axes."""
    shares = sorted({key for arm in results["arms"].values() for key in arm["labels"]}, key=float)
    parts = []
    if len(shares) > 1 or results["config"]["settings"]:
        parts += ["<h2>By share of the labels</h2>", tables.shares(results, shares)]
    if len(shares) > 1:
        parts.append(document.row([charts.label_efficiency(results)]))
        if table := tables.labels_worth(results):
            parts += ["<h2>How many labels pretraining is worth</h2>", table]
    axes = {axis for arm in results["arms"].values() for axis in arm["axes"]}
    if axes:
        figures = [charts.axis(results, axis) for axis in sorted(axes)]
        parts += ["<h2>By the effort of the pretext task</h2>", document.row(figures)]
    return parts
