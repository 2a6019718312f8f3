"""What the arms of a study make of each class: a table and confusion matrices, as HTML."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.report import confusion_matrix
from ssljax.report.document import name

_UNFOLDED = 20  # classes; a longer table is folded
_MOST_ROWS = 100
_PAIRS = 6  # of classes that are confused


def section(results: Mapping[str, Any], confusions: Mapping[str, np.ndarray]) -> str:
    """The table, and a confusion matrix for each arm.

    Args:
      results: see `ssljax.studies.results.collect`.
      confusions: of the arms, see `ssljax.studies.results.confusions`.
    """
    names = results["class_names"]
    unfolded = " open" if len(names) <= _UNFOLDED else ""
    confused = "".join(_most_confused(arm, runs, names) for arm, runs in confusions.items())
    matrices = "".join(_matrix(arm, runs, names) for arm, runs in confusions.items())
    return (
        f"<details{unfolded}><summary>Accuracy within each class</summary>"
        f"{table(names, confusions)}</details>"
        f'<h3>Most confused classes</h3><div class="row">{confused}</div>'
        f'<details><summary>Confusion matrices</summary><div class="row">{matrices}</div></details>'
    )


def table(names: Sequence[str], confusions: Mapping[str, np.ndarray]) -> str:
    """The share of each class that each arm names right.

    Args:
      names: of the classes.
      confusions: int[S, K, K] by arm, a matrix for each seed.
    """
    images = next(iter(confusions.values()))[0].sum(axis=1)
    shown = np.sort(np.argsort(-images, kind="stable")[:_MOST_ROWS])
    head = "".join(f'<th class="n">{name(arm)}</th>' for arm in confusions)
    lines = [f'<table><tr><th>class</th><th class="n">test images</th>{head}</tr>']
    for index in shown:
        lines.append(f'<tr><td>{name(names[index])}</td><td class="n">{images[index]:,}</td>')
        lines += [f'<td class="n">{_accuracy(runs, index)}</td>' for runs in confusions.values()]
        lines.append("</tr>")
    note = (
        "Percent of the class's test images, mean over seeds, and its 95 % interval, because they "
        "are a sample."
    )
    if len(shown) < len(names):
        note += f" The {len(shown)} most frequent of {len(names):,} classes."
    return "".join(lines) + f'</table><p class="note">{note}</p>'


def _accuracy(runs: np.ndarray, index: int) -> str:
    images = int(runs[0, index].sum())
    if not images:
        return ""
    share = float(runs[:, index, index].mean()) / images
    low, high = interval(share, images)
    return f"{100 * share:.1f} ({100 * low:.0f}–{100 * high:.0f})"


def interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` images, which also holds near 0 and 1."""
    shrink = 1 / (1 + z**2 / count)
    centre = shrink * (share + z**2 / (2 * count))
    half = shrink * z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _most_confused(arm: str, runs: np.ndarray, names: Sequence[str]) -> str:
    """The pairs of classes with the largest shares of the true class that are named wrong."""
    counts = runs.mean(axis=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:_PAIRS]
    lines = [f'<table><tr><th>{name(arm)}</th><th>is called</th><th class="n">%</th></tr>']
    for true, said in zip(*np.unravel_index(order, shares.shape), strict=True):
        if shares[true, said]:
            lines.append(
                f"<tr><td>{name(names[true])}</td><td>{name(names[said])}</td>"
                f'<td class="n">{100 * shares[true, said]:.0f}</td></tr>'
            )
    return "".join(lines) + "</table>"


def _matrix(arm: str, runs: np.ndarray, names: Sequence[str]) -> str:
    png = base64.b64encode(confusion_matrix.draw(runs.mean(axis=0), names)).decode()
    title = name(arm)
    return (
        f'<div><h3>{title}</h3><img class="matrix" alt="confusion matrix of {title}" '
        f'src="data:image/png;base64,{png}"></div>'
    )
