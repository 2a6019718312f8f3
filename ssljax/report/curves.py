"""Curves as SVG, for the page."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, which colour-blind readers can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
      label: in the legend; lines of one label share one entry.
      x: such as epochs.
      y: as many values.
      colour: an index into the palette.
      dashed: for the second line of a pair, such as the training loss.
      spread: the half length of an error bar at each point; empty draws none.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dashed: bool = False
    spread: Sequence[float] = ()


@matplotlib.rc_context({"text.parse_math": False})  # a `$` in a name is no formula
def draw(
    curves: Sequence[Curve],
    title: str,
    y_label: str,
    percent: bool = False,
    chance: float | None = None,
    x_label: str = "epoch",
    logarithmic: bool = False,
    markers: bool = False,
) -> str:
    """Draws curves; returns an `<svg>` element.

    Args:
      curves: the lines.
      title: above the chart.
      y_label: of the y axis.
      percent: shows y × 100.
      chance: a dotted line at what guessing reaches, in the unit of y.
      x_label: of the x axis.
      logarithmic: the x axis; its ticks are the values of the curves.
      markers: marks every point.
    """
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    factor = 100 if percent else 1
    seen: set[str] = set()
    for curve in curves:
        axes.plot(
            curve.x,
            [factor * value for value in curve.y],
            color=COLOURS[curve.colour % len(COLOURS)],
            linestyle="--" if curve.dashed else "-",
            linewidth=1.6,
            marker="o" if markers or logarithmic or len(curve.x) < 3 else None,
            markersize=4,
            label=None if curve.label in seen else curve.label,
        )
        seen.add(curve.label)
        if any(curve.spread):
            axes.errorbar(
                curve.x,
                [factor * value for value in curve.y],
                yerr=[factor * value for value in curve.spread],
                fmt="none",
                ecolor=COLOURS[curve.colour % len(COLOURS)],
                capsize=3,
            )
    if chance is not None:
        axes.axhline(factor * chance, color="#888888", linestyle=":", label="chance")
    if logarithmic:
        ticks = sorted({value for curve in curves for value in curve.x})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False)
    finish(axes, title, x_label, y_label)
    return to_svg(figure)


def finish(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Labels a chart."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def to_svg(figure: Figure) -> str:
    """A chart as an `<svg>` element."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ssljax"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
