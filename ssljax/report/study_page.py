"""The page of a study."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.report import charts, classes, document, probe_tables, tables
from ssljax.report.thumbnails import Sheet
from ssljax.studies.results import best, error, failed_arms, main_arms


def render(
    results: dict[str, Any],
    confusions: Mapping[str, np.ndarray],
    sheets: Sequence[Sheet],
    run_pages: Collection[str] = (),
) -> str:
    """Renders the page.

    Args:
      results: as in results.json, see `ssljax.studies.results.collect`.
      confusions: of the arms, see `ssljax.studies.results.confusions`.
      sheets: of images.
      run_pages: the runs that have a page, such as `seed-0/arm-NAME`.
    """
    parts = [
        f"<h1>{html.escape(results['dataset'])}: does the pretext task help?</h1>",
        f"<p>{html.escape(verdict(results))}</p>",
        "<h2>Test accuracy</h2>",
        tables.arms(results),
        tables.failures(results),
        document.row([charts.arms(results)]),
        *probe_tables.section(results),
        *_comparisons(results),
        "<h2>Classification, by epoch</h2>",
        document.row(charts.classification(results)),
        "<h2>Classification, by class</h2>",
        classes.section(results, confusions),
    ]
    if results["pretexts"]:
        parts += ["<h2>Pretext tasks</h2>", tables.pretexts(results)]
        parts.append(document.row(charts.pretexts(results)))
    parts += map(document.sheet, sheets)
    parts.append(tables.runs(results, run_pages))
    parts += [
        "<h2>Settings</h2>",
        document.details("Config", results["config"]),
        document.details("Environment", results["environment"]),
    ]
    return document.document(f"ssljax study: {results['dataset']}", parts)


def verdict(results: dict[str, Any]) -> str:
    """A part for each pretext arm, against the random one at the same share of the labels."""
    metric = results["metric"]
    arms = main_arms(results)
    random = next((arm for arm in arms.values() if arm["start"] == "random"), None)
    if random is None:
        return "There is no arm from random weights to compare with."
    if all(arm["start"] == "random" for arm in arms.values()):
        arms = results["arms"]
    sentences = []
    for name, arm in arms.items():
        if arm["start"] == "random":
            continue
        gains = {
            share["fraction"]: _gain(best(share), best(other), metric)
            for key, share in arm["labels"].items()
            if (other := random["labels"].get(key))
        }
        if not gains:
            continue
        (gain, doubt), least = gains[max(gains)], min(gains)
        how = "above" if gain >= 0 else "below"
        sentence = (
            f"{name} ends {abs(gain):.1f} ± {doubt:.1f} points {how} random weights in "
            f"{tables.label(metric)}"
        )
        if max(gains) < 1:
            sentence += f" with {100 * max(gains):g} % of the labels"
        if len(gains) > 1:
            gain, doubt = gains[least]
            sentence += f" ({gain:+.1f} ± {doubt:.1f} with {100 * least:g} % of the labels)"
        sentences.append(sentence)
    sentences += [f"{name} failed" for name in failed_arms(results)]
    seeds = len(results["seeds"])
    runs = (
        "one seed; ± is the standard error of the test set alone"
        if seeds == 1
        else f"{seeds} seeds; ± is the standard error of seeds and test set"
    )
    return ("; ".join(sentences) or "Only random weights were trained") + f" ({runs})."


def _gain(summary: Mapping[str, Any], other: Mapping[str, Any], metric: str) -> tuple[float, float]:
    """A difference and its standard error, as if the test sets were different ones, in points."""
    difference = summary["mean"][metric] - other["mean"][metric]
    doubt = math.hypot(error(summary, metric), error(other, metric))
    return 100 * difference, 100 * doubt


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
