"""The rows of probes as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.probes.knn import SHOWN

Row = Mapping[str, Any]
METRICS = ("top1", "top3", "top5", "class_mean")


def describe(rows: Sequence[Row]) -> list[str]:
    """The lines of a table in percent; means and deviations over draws of the labels and seeds.

    Args:
      rows: of `ssljax.probe`.
    """
    metrics = [name for name in METRICS if name in rows[0]]
    lines = [_line("probe", "labels", "k or L2", "weights", "of", metrics)]
    for group in groups(rows):
        one = group[0]
        chosen = str(one["k"]) if "k" in one else _range([row["l2"] for row in group])
        labels = f"{one['label_fraction']:.4g}"
        cells = [percent([row[name] for row in group]) for name in metrics]
        lines.append(_line(one["probe"], labels, chosen, one["weights"], str(len(group)), cells))
    return lines


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that differ only in draw and seed, together."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        key = (row["probe"], row["weights"], row["label_fraction"], row.get("k"))
        found.setdefault(key, []).append(row)
    return list(found.values())


def of_protocol(rows: Iterable[Row], probe: str, fraction: float) -> list[Row]:
    """The rows of a probe at a share of the labels; of kNN, those with `knn.SHOWN` neighbours.

    Args:
      rows: of `ssljax.probe`.
      probe: `knn` or `linear`.
      fraction: of the labels.
    """
    return [
        row
        for row in rows
        if (row["probe"], row["label_fraction"]) == (probe, fraction)
        and row.get("k", SHOWN) == SHOWN
    ]


def percent(shares: Sequence[float]) -> str:
    """Such as `57.1`, or `57.1 ± 0.8` of several, with their standard deviation."""
    values = 100 * np.array(shares)
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def _range(values: Iterable[float]) -> str:
    """Such as `0.001`, or `0.001–0.1`."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _line(
    probe: str, labels: str, chosen: str, weights: str, count: str, cells: Sequence[str]
) -> str:
    start = f"{probe:7} {labels:>7} {chosen:>13} {weights:>8} {count:>3}"
    return start + "".join(f" {cell:>12}" for cell in cells)
