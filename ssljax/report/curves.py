"""Curves as SVG, for the page."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ssljax.report import document
from ssljax.settings.printable import shortened

# Okabe and Ito's palette, which colour-blind readers can distinguish.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# More curves than colours differ by these.
_LINES, _MARKERS = ("-", "-.", ":"), ("o", "s", "^")
MUTED = "#777777"
_INK, _RULE = "#010101", "#dddddd"
# The style sheet has these colours for light and dark pages.
_ON_THE_PAGE = {
    _INK: "currentColor",
    _RULE: "var(--rule)",
    MUTED: "var(--muted)",
    **{colour: f"var(--curve-{index})" for index, colour in enumerate(COLOURS)},
}
STYLE = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "text.parse_math": False,  # a `$` in a name is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "ssljax",
}
_LONGEST_LABEL = 60  # characters
_MOST_LABELS_INSIDE = 6  # of a legend that leaves room for curves
_SMALL_MARGINS = {"left": 0.18, "right": 0.97, "top": 0.87, "bottom": 0.2}


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
      label: in the legend; lines of one label share one entry.
      x: such as epochs.
      y: as many values.
      colour: an index into the palette; beyond its end, the form of the line differs, too.
      dashed: for the second line of a pair, such as the training loss.
      spread: the half length of an error bar at each point; empty draws none.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dashed: bool = False
    spread: Sequence[float] = ()


@matplotlib.rc_context(STYLE)
def draw(
    curves: Sequence[Curve],
    title: str,
    y_label: str,
    percent: bool = False,
    chance: float | None = None,
    x_label: str = "epoch",
    logarithmic: bool = False,
    markers: bool = False,
    logarithmic_y: bool = False,
    small: bool = False,
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
      logarithmic_y: the y axis.
      small: for many charts beside each other, several times as fast. The x axis begins at 0, and
        only lines that have a label are in the legend.
    """
    labels = len({curve.label for curve in curves})
    rows_below = math.ceil(labels / 2) if labels > _MOST_LABELS_INSIDE else 0
    if small:
        figure = Figure(figsize=(3.6, 2.3))
        figure.subplots_adjust(**_SMALL_MARGINS)
    else:
        figure = Figure(figsize=(4.6, 3.1 + 0.16 * rows_below), layout="constrained")
    axes = figure.subplots()
    factor = 100 if percent else 1
    seen: set[str] = set()
    for curve in curves:
        label = printable_label(curve.label)
        again = curve.colour // len(COLOURS)
        marked = markers or logarithmic or len(curve.x) < 3
        axes.plot(
            curve.x,
            [factor * value for value in curve.y],
            color=COLOURS[curve.colour % len(COLOURS)],
            linestyle="--" if curve.dashed else _LINES[again % len(_LINES)],
            linewidth=1.3 if small else 1.6,
            marker=_MARKERS[again % len(_MARKERS)] if marked else None,
            markersize=4,
            label=None if label in seen else label or None,
        )
        seen.add(label)
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
        axes.axhline(factor * chance, color=MUTED, linestyle=":", label=None if small else "chance")
    if logarithmic:
        ticks = sorted({value for curve in curves for value in curve.x})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6 if small else "auto", integer=True))
    if logarithmic_y:
        axes.set_yscale("log")
    if small:
        axes.set_xlim(0, 1.02 * max(max(curve.x) for curve in curves))
        axes.yaxis.set_major_formatter(_number)
        if not logarithmic_y:
            _widen(axes)
        if any(seen):
            axes.legend(
                fontsize=7, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.98),
                borderpad=0, handlelength=1.2, columnspacing=1,
            )  # fmt: skip
    elif rows_below:
        figure.legend(fontsize=7, frameon=False, ncols=2, loc="outside lower left")
    else:
        axes.legend(fontsize=8, frameon=False)
    finish(axes, title, x_label, y_label)
    if small:
        # Looking for its place takes long.
        axes.set_title(printable_label(title), fontsize=10, loc="left", y=1.0)
    return to_svg(figure, title)


def _number(value: float, place: float) -> str:
    return f"{value:.4g}"


def _widen(axes: Axes) -> None:
    """Shows values that hardly differ as a flat line."""
    low, high = axes.get_ylim()
    least = 1e-2 * max(abs(low), abs(high))
    if high - low < least:
        axes.set_ylim((low + high - least) / 2, (low + high + least) / 2)


def printable_label(name: str) -> str:
    """A name as a chart shows it, see `ssljax.settings.printable`."""
    return shortened(name, _LONGEST_LABEL)


def finish(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Labels a chart."""
    axes.set_title(printable_label(title), fontsize=10, loc="left")
    axes.set_xlabel(printable_label(x_label), fontsize=9)
    axes.set_ylabel(printable_label(y_label), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color=_RULE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def to_svg(figure: Figure, title: str) -> str:
    """A chart as an `<svg>` element that has the colours of the page.

    Args:
      figure: drawn with `STYLE`.
      title: for those who do not see it.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"(?<=: )#[0-9a-f]{6}", lambda found: _ON_THE_PAGE.get(found[0], found[0]), text)
    named = f'<svg role="img" aria-label="{document.name(title)}" '
    return text[text.index("<svg") :].replace("<svg ", named, 1)
