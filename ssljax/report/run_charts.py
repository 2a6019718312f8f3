"""The charts of a run's page, from the rows of its log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.report import curves
from ssljax.report.curves import Curve
from ssljax.report.tables import label

Row = Mapping[str, Any]
_MOST_POINTS = 300  # of a line; a longer one shows means
_NORMS = {"gradient_norm": "gradient", "update_norm": "update", "parameter_norm": "parameters"}
# Of training alone: title, unit, and whether it is a share.
_TRAINING = {
    "learning_rate": ("learning rate", "", False),
    "images_per_second": ("images per second", "", False),
    "input_wait": ("waiting for input", "percent of the time", True),
}
_NO_VALUE = ("kind", "step", "epoch")


def metrics(rows: Sequence[Row]) -> list[str]:
    """The loss and the metrics that are validated, or before that those of training, by name."""
    validations = [row for row in rows if row["kind"] == "validation"]
    names: dict[str, None] = {}
    for row in validations or rows:
        names |= dict.fromkeys(row)
    other = (*_NO_VALUE, *_TRAINING, *_NORMS)
    found = (name for name in names if name not in other and not name.startswith("train_"))
    return sorted(found, key=lambda name: name != "loss")


def draw(rows: Sequence[Row], chance: Mapping[str, float]) -> dict[str, str]:
    """Every value of the log by epoch: `<svg>` elements by name.

    Args:
      rows: of metrics.jsonl.
      chance: what guessing reaches, by metric.
    """
    training = [row for row in rows if row["kind"] == "train"]
    validation = [row for row in rows if row["kind"] == "validation"]
    names = metrics(rows)
    charts = {}
    for name in names:
        lines = [_curve(training, name, 1), _curve(validation, name, 0)]
        charts[name] = _draw(lines, label(name), chance=chance.get(name))
    probes = [row for row in rows if row["kind"] == "probe"]
    found = dict.fromkeys(name for row in probes for name in row if name not in _NO_VALUE)
    lines = [_curve(probes, name, index, label(name)) for index, name in enumerate(found)]
    charts["probes"] = _draw(lines, "probes on validation images", "percent", percent=True)
    norms = [
        _curve(training, name, index, said) for index, (name, said) in enumerate(_NORMS.items())
    ]
    charts["norms"] = _draw(norms, "norms", logarithmic_y=_positive(norms))
    measured = [row for row in training if row.get("images_per_second")]  # and not the first steps
    for name, (title, unit, share) in _TRAINING.items():
        shown = training if name == "learning_rate" else measured
        charts[name] = _draw([_curve(shown, name, 1)], title, unit, percent=share)
    known = (*_NO_VALUE, *_TRAINING, *_NORMS, *names)
    for name in dict.fromkeys(key for row in training for key in row if key not in known):
        charts[name] = _draw([_curve(training, name, 1)], label(name))
    return {name: chart for name, chart in charts.items() if chart}


def _curve(rows: Sequence[Row], name: str, colour: int, said: str = "") -> Curve:
    """The finite values of a name, thinned out."""
    points = [(row["epoch"], row[name]) for row in rows if _is_finite(row.get(name))]
    if len(points) > _MOST_POINTS:
        groups = np.array_split(np.array(points, float), _MOST_POINTS)
        points = [tuple(group.mean(axis=0)) for group in groups]
    return Curve(said, [x for x, _ in points], [y for _, y in points], colour)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _positive(lines: Sequence[Curve]) -> bool:
    return all(value > 0 for line in lines for value in line.y)


def _draw(lines: Sequence[Curve], title: str, unit: str = "", **options: Any) -> str:
    lines = [line for line in lines if line.y]
    return curves.draw(lines, title, unit, small=True, **options) if lines else ""
