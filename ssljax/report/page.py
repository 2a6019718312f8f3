"""The report of a study: one HTML file that needs no other files."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.report import charts, classes, tables
from ssljax.report.thumbnails import Sheet, Thumbnail, data_uri
from ssljax.studies.results import best, error, failed_arms, main_arms

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: .2em } h2 { font-size: 1.2em; margin: 2em 0 .5em }
h3 { font-size: 1em; margin: 1.2em 0 .3em }
table { border-collapse: collapse; margin: .5em 0 } th { text-align: left; font-weight: 600 }
td, th { padding: .3em .9em .3em 0; border-bottom: 1px solid #ddd; vertical-align: baseline }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } td.published { color: #777 }
td.bad { color: #b34700 } img.matrix { max-width: 500px; height: auto }
details { margin: .5em 0 } summary { cursor: pointer }
tr.chance td { color: #777; font-style: italic } .note { color: #666 }
.row { display: flex; flex-wrap: wrap; gap: 1em } .row svg { max-width: 520px; height: auto }
figure { margin: 0; width: 124px } figure img { width: 124px; height: 124px; display: block;
  image-rendering: auto; border-radius: 3px } figcaption { font-size: 11px; line-height: 1.3;
  color: #666; margin-top: 3px } .good figcaption { color: #00734f }
.bad figcaption { color: #b34700 }
.group { display: flex; gap: 4px; padding: 6px; background: #f4f4f4; border-radius: 6px }
pre { background: #f6f6f6; padding: 1em; overflow: auto; font-size: 12px; max-height: 30em }
"""


def render(
    results: dict[str, Any], confusions: Mapping[str, np.ndarray], sheets: Sequence[Sheet]
) -> str:
    """Renders the page.

    Args:
      results: as in results.json, see `ssljax.studies.results.collect`.
      confusions: of the arms, see `ssljax.studies.results.confusions`.
      sheets: of images.
    """
    parts = [
        f"<h1>{html.escape(results['dataset'])}: does the pretext task help?</h1>",
        f"<p>{html.escape(verdict(results))}</p>",
        "<h2>Test accuracy</h2>",
        tables.arms(results),
        tables.failures(results),
        _row([charts.arms(results)]),
        *_comparisons(results),
        "<h2>Classification, by epoch</h2>",
        _row(charts.classification(results)),
        "<h2>Classification, by class</h2>",
        classes.section(results, confusions),
    ]
    if results["pretexts"]:
        parts += ["<h2>Pretext tasks</h2>", tables.pretexts(results)]
        parts.append(_row(charts.pretexts(results)))
    for sheet in sheets:
        parts.append(f"<h2>{html.escape(sheet.title)}</h2>")
        parts.append(f'<p class="note">{html.escape(sheet.note)}</p>')
        parts.append(_row(_group(group) for group in sheet.groups))
    parts += ["<h2>Settings</h2>", _details(results)]
    title = html.escape(f"ssljax study: {results['dataset']}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


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
        parts.append(_row([charts.label_efficiency(results)]))
    axes = {axis for arm in results["arms"].values() for axis in arm["axes"]}
    if axes:
        figures = [charts.axis(results, axis) for axis in sorted(axes)]
        parts += ["<h2>By the effort of the pretext task</h2>", _row(figures)]
    return parts


def _details(results: dict[str, Any]) -> str:
    settings = html.escape(json.dumps(results["config"], indent=2))
    environment = html.escape(json.dumps(results["environment"], indent=2))
    return (
        f"<details><summary>Config</summary><pre>{settings}</pre></details>"
        f"<details><summary>Environment</summary><pre>{environment}</pre></details>"
    )


def _group(group: Sequence[Thumbnail]) -> str:
    figures = "".join(_figure(thumbnail) for thumbnail in group)
    return f'<div class="group">{figures}</div>' if len(group) > 1 else figures


def _figure(thumbnail: Thumbnail) -> str:
    kind = {None: "", True: "good", False: "bad"}[thumbnail.good]
    caption = html.escape(thumbnail.caption)
    return (
        f'<figure class="{kind}"><img src="{data_uri(thumbnail.pixels)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _row(items: Iterable[str]) -> str:
    return f'<div class="row">{"".join(items)}</div>'
