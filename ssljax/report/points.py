"""Values with error bars as SVG, one below the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from ssljax.report.curves import COLOURS, MUTED, STYLE, finish, printable_label, to_svg


@dataclasses.dataclass(frozen=True)
class Point:
    """One value.

    Attributes:
      label: its name.
      value: to be drawn.
      error: the half length of its error bar.
      published: a value to compare with, if there is one.
    """

    label: str
    value: float
    error: float
    published: float | None = None


@matplotlib.rc_context(STYLE)
def draw(points: Sequence[Point], title: str, x_label: str, chance: float | None = None) -> str:
    """Draws shares in percent; returns an `<svg>` element.

    Args:
      points: from top to bottom.
      title: above the chart.
      x_label: of the x axis.
      chance: a dotted line at what guessing reaches.
    """
    figure = Figure(figsize=(4.6, 1.3 + 0.3 * len(points)), layout="constrained")
    axes = figure.subplots()
    for row, point in enumerate(points):
        axes.errorbar(
            100 * point.value, row, xerr=100 * point.error, fmt="o", markersize=5, capsize=3,
            color=COLOURS[row % len(COLOURS)],
        )  # fmt: skip
        if point.published is not None:
            axes.plot(100 * point.published, row, "D", markersize=5, color=MUTED, fillstyle="none")
    handles = []
    if any(point.published is not None for point in points):
        handles += axes.plot([], [], "D", color=MUTED, fillstyle="none", label="published")
    if chance is not None:
        handles.append(axes.axvline(100 * chance, color=MUTED, linestyle=":", label="chance"))
    axes.set_yticks(range(len(points)), [printable_label(point.label) for point in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    finish(axes, title, x_label, "")
    axes.legend(
        handles=handles, fontsize=8, frameon=False, ncols=2, borderpad=0,
        loc="lower right", bbox_to_anchor=(1, 1),
    )  # fmt: skip
    return to_svg(figure, title)
