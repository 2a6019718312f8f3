"""Frozen features on a study's page: pretext tasks × protocols, random weights beside them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ssljax.probes.knn import SHOWN
from ssljax.probes.table import of_protocol, percent
from ssljax.report import curves, document
from ssljax.report.curves import Curve
from ssljax.report.tables import label
from ssljax.studies.probing import same_network
from ssljax.studies.results import best

Row = Mapping[str, Any]
_Weights = tuple[str, str]  # their name, and the start of their arms
_NAMES = {"knn": "kNN", "linear": "linear"}


def section(results: Mapping[str, Any]) -> list[str]:
    """A table, and a chart for each probe with several shares of the labels; [] without probes.

    Args:
      results: as in results.json, see `ssljax.studies.results.collect`.
    """
    probed = dict(_probed(results))
    if not probed:
        return []
    rows = next(iter(probed.values()))
    columns = list(dict.fromkeys((row["probe"], row["label_fraction"]) for row in rows))
    tuned = sorted(
        {share["fraction"] for arm in results["arms"].values() for share in arm["labels"].values()},
        reverse=True,
    )
    head = [f"{_NAMES[probe]}, {_share(fraction)}" for probe, fraction in columns]
    head += [f"with labels, {_share(fraction)}" for fraction in tuned]
    seeds = ["seeds"] * (len(results["seeds"]) > 1)
    lines = ["<table><tr><th>weights, top-1</th>"]
    lines += [f'<th class="n">{text}</th>' for text in [*seeds, *head]]
    for (name, start), own in probed.items():
        cells = [str(len({row["seed"] for row in own})) for _ in seeds]
        cells += [percent(_top1(own, *column)) for column in columns]
        cells += [_tuned(results, start, fraction) for fraction in tuned]
        lines.append(f"</tr><tr><td>{document.name(name)}</td>")
        lines += [f'<td class="n">{cell}</td>' for cell in cells]
    note = (
        "Percent of the test images ± standard deviation over seeds and draws of the labels. kNN: "
        f"{SHOWN} neighbours; linear: logistic regression; both on features of the backbone, "
        "which is not changed. With labels: the arms that start from these weights, under "
        "the settings that they chose on validation data."
    )
    table = "".join(lines) + f'</tr></table><p class="note">{document.text(note)}</p>'
    charts = [chart for probe in _NAMES if (chart := _chart(probed, columns, probe))]
    return ["<h2>Frozen features</h2>", table, document.row(charts)]


def _probed(results: Mapping[str, Any]) -> Iterator[tuple[_Weights, list[Row]]]:
    """Pretext tasks, then random weights, with their rows.

    Random weights of one network may have been probed with several pretext tasks, if some failed
    with some seeds, see `ssljax.studies.floors`.
    """
    config = ConfigDict(results["config"])
    floors: dict[str, list[Row]] = {}  # by the first pretext task with the network
    for name, rows in results["probes"].items():
        trained = [row for row in rows if row["weights"] != "random"]
        if trained:
            yield (name, name), trained
        if floor := [row for row in rows if row["weights"] == "random"]:
            floors.setdefault(same_network(config, name)[0], []).extend(floor)
    for name, floor in floors.items():
        model = results["config"]["pretexts"][name]["model"]
        said = "random" if len(floors) == 1 else f"random, {model['name']} as in {name}"
        is_trained = model == results["config"]["classification"]["model"]
        yield (said, "random" if is_trained else ""), floor


def _top1(rows: Sequence[Row], probe: str, fraction: float) -> list[float]:
    return [row["top1"] for row in of_protocol(rows, probe, fraction)]


def _tuned(results: Mapping[str, Any], start: str, fraction: float) -> str:
    """Of the arms that start from some weights, at a share of the labels."""
    found = {
        name: percent([run["test"]["top1"] for run in best(arm["labels"][f"{fraction:g}"])["runs"]])
        for name, arm in results["arms"].items()
        if arm["start"] == start and f"{fraction:g}" in arm["labels"]
    }
    if len(found) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{document.name(name)}: {value}" for name, value in found.items())


def _chart(
    probed: Mapping[_Weights, list[Row]], columns: Sequence[tuple[str, float]], probe: str
) -> str:
    shares = sorted(fraction for other, fraction in columns if other == probe)
    if len(shares) < 2:
        return ""
    lines = []
    for index, ((name, _), rows) in enumerate(probed.items()):
        values = [_top1(rows, probe, fraction) for fraction in shares]
        means = [statistics.mean(each) for each in values]
        spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values]
        x = [100 * fraction for fraction in shares]
        lines.append(Curve(name, x, means, index, spread=spread))
    drawn = curves.draw(
        lines,
        f"{_NAMES[probe]} {label('top1')} by share of the labels",
        "percent",
        percent=True,
        x_label="percent of the labels",
        logarithmic=True,
    )
    bars = "Bars: the standard deviation over seeds and draws of the labels."
    # A single number at each share has no bar.
    return document.chart(drawn, bars if any(any(line.spread) for line in lines) else "")


def _share(fraction: float) -> str:
    return f"{100 * fraction:g} %"
