"""The confusion matrix as an image."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ssljax.settings.printable import shortened

_MOST_NAMES = 60  # with more classes, the axes have numbers
_LONGEST_NAME = 30  # characters


@matplotlib.rc_context({"text.parse_math": False})  # a `$` in a class name is no formula
def draw(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Draws the share of each true class that is predicted as each class.

    Args:
      confusion: int[K, K], or its mean over several runs: true classes in rows, predicted ones in
        columns.
      class_names: of the rows and columns. With more than 60, classes are numbered from 0.

    Returns:
      A PNG file, at most 2,000 pixels on each side.
    """
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    classes = len(class_names)
    side = max(4.0, 0.24 * min(classes, _MOST_NAMES) + 2.5)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= _MOST_NAMES:
        names = [shortened(name, _LONGEST_NAME) for name in class_names]
        counts = [f"{name} ({int(n):,})" for name, n in zip(names, totals[:, 0], strict=True)]
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), counts)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true (examples)")
    else:
        axes.set_xlabel("predicted (number of the class)")
        axes.set_ylabel("true (number of the class)")
    if classes <= 15:
        _write_percentages(axes, shares)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that the font does not have
        figure.savefig(file, format="png", dpi=110)
    return _compress(file.getvalue())


def _write_percentages(axes: Axes, shares: np.ndarray) -> None:
    for row, column in np.argwhere(shares):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        text = f"{100 * share:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)


def _compress(png: bytes) -> bytes:
    """A quarter of the bytes: 64 colours are enough for shades of blue and black text."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()
