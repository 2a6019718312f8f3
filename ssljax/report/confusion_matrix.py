"""The confusion matrix as an image."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def draw(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Draws the share of each true class that is predicted as each class.

    Args:
      confusion: int[K, K], true classes in rows, predicted ones in columns.
      class_names: of the rows and columns.

    Returns:
      A PNG file.
    """
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    classes = len(class_names)
    side = max(4.0, 0.32 * classes + 2)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), class_names, rotation=90)
    axes.set_yticks(
        range(classes),
        [f"{name} ({int(n):,})" for name, n in zip(class_names, totals[:, 0], strict=True)],
    )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (examples)")
    if classes <= 15:
        for row, column in np.ndindex(classes, classes):
            if confusion[row, column]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                text = f"{100 * shares[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
