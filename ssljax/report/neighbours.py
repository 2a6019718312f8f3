"""The nearest neighbours of some images in feature spaces, beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssljax.report.document import name
from ssljax.report.feature_sample import Sample, place

_QUERIES, _NEIGHBOURS = 8, 6


def queries(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of images of different classes, as far as there are as many classes.

    Args:
      labels: int[N].
      count: at most so many.
    """
    _, first = np.unique(labels, return_index=True)
    rest = np.setdiff1d(np.arange(len(labels)), first)
    return np.concatenate([np.sort(first), rest])[:count]


def nearest(features: np.ndarray, index: int, count: int) -> np.ndarray:
    """Indices of the most similar other images, the most similar one first.

    Args:
      features: float32[N, D], of length 1.
      index: of an image.
      count: at most so many.
    """
    similarities = features @ features[index]
    order = np.argsort(-similarities, kind="stable")
    return order[order != index][:count]


def section(samples: Sequence[tuple[str, Sample]]) -> list[str]:
    """A table with an image in each row and its neighbours in the space of each network.

    Args:
      samples: of the same images, with the names of the networks that have these features.
    """
    labels, names = samples[0][1].labels, samples[0][1].class_names
    known = bool(names) and bool((labels >= 0).all())
    head = "".join(f"<th>{name(title)}</th>" for title, _ in samples)
    lines = [f'<table class="neighbours"><tr><th></th>{head}</tr>']
    right = np.zeros(len(samples), int)
    asked = queries(labels, _QUERIES)
    for index in asked:
        title = name(names[labels[index]]) if known else ""
        lines.append(f"<tr><td>{_thumbnail(index, '', title)}</td>")
        for column, (_, sample) in enumerate(samples):
            found = nearest(sample.features, index, _NEIGHBOURS)
            same = labels[found] == labels[index]
            right[column] += int(same.sum())
            cells = (
                _thumbnail(other, ("good" if hit else "bad") if known else "",
                           name(names[labels[other]]) if known else "")
                for other, hit in zip(found, same, strict=True)
            )  # fmt: skip
            lines.append(f'<td class="thumbnails">{"".join(cells)}</td>')
        lines.append("</tr>")
    if known:
        total = len(asked) * min(_NEIGHBOURS, len(labels) - 1)
        counts = "".join(f"<td>{count} of {total} of the same class</td>" for count in right)
        lines.append(f"<tr><td></td>{counts}</tr>")
    note = "The most similar validation images, by the cosine of their features."
    if known:
        note += " A line below an image: solid if it has the same class, dashed if it has another."
    return [
        "<h2>Nearest neighbours</h2>",
        f'<p class="note">{note}</p>',
        "".join(lines) + "</table>",
    ]


def _thumbnail(index: int, kind: str, title: str) -> str:
    return (
        f'<span class="thumbnail {kind}" style="{place(int(index))}" title="{title}" role="img" '
        f'aria-label="{title}"></span>'
    )
