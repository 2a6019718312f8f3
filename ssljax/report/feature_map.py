"""A map of images by their features: similar ones are close to each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssljax.report import document
from ssljax.report.feature_sample import COLUMNS, SIDE, Sample

_SIZE = 400  # of the map, in its own units
_LEAST = 10  # images
# From features to their mean. Cosine distances of nearer ones are about 1e-6, and float32 rounds
# them to multiples of 1e-7, so their map would show the rounding.
_LEAST_SPREAD = 1e-3


def reason_without(features: np.ndarray) -> str:
    """Why there is no map of some features; empty: there is one.

    Args:
      features: float32[N, D], of length 1, or 0 if a network gives zeros.
    """
    if not np.isfinite(features).all():
        return "some features are NaN or infinite"
    # scikit-learn divides by the spread along the first principal component. If that is 0, the
    # process ends with a segmentation fault.
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    if np.sqrt((centred**2).sum(axis=1).mean()) < _LEAST_SPREAD:
        return "the features of all images are nearly the same"
    return ""


def positions(features: np.ndarray) -> np.ndarray:
    """Places in the plane, by t-SNE on cosine distances.

    Source: van der Maaten and Hinton (2008), "Visualizing Data using t-SNE"; scikit-learn's, with
    its default settings, from the first two principal components.

    Args:
      features: float32[N, D], of length 1, for which `reason_without` has no reason.

    Returns:
      float32[N, 2] in [0, 1].
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(features) - 1) / 3)
    init = "pca" if min(features.shape) > 1 else "random"
    tsne = TSNE(metric="cosine", init=init, perplexity=perplexity, random_state=0)
    # Its threads wait actively for each other, which takes long where others compute, too.
    with threadpool_limits(1):
        found = tsne.fit_transform(features)
    low, high = found.min(axis=0), found.max(axis=0)
    return (found - low) / np.maximum(high - low, 1e-12)


def section(samples: Sequence[tuple[str, Sample]]) -> list[str]:
    """Maps beside each other, with one legend; [] with fewer than ten images.

    A network without a map has a sentence in its place.

    Args:
      samples: of the same images, with the names of the networks that have these features.
    """
    first = samples[0][1]
    if len(first.labels) < _LEAST:
        return []
    note = (
        f"{len(first.labels):,} validation images, by t-SNE on the cosine distances of their "
        "features: near images are similar to the network; distances between groups mean little. "
        "Point at a dot to see the image."
    )
    maps = "".join(_map(name, sample) for name, sample in samples)
    if "<svg" not in maps:  # names are escaped
        return ["<h2>A map of the features</h2>", f'<div class="row maps">{maps}</div>']
    return [
        "<h2>A map of the features</h2>",
        f'<p class="note">{note}</p>',
        f'<div class="row maps">{maps}</div>{_legend(first)}',
        f'<div class="tip" data-side="{SIDE}" data-columns="{COLUMNS}" hidden>'
        '<span class="thumbnail"></span><span class="name"></span></div>',
        document.script(),
    ]


def _map(name: str, sample: Sample) -> str:
    title = document.name(name)
    if reason := reason_without(sample.features):
        return f'<div><h3>{title}</h3><p class="note">There is no map, because {reason}.</p></div>'
    places = positions(sample.features) * (_SIZE - 20) + 10
    classes = len(sample.class_names)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_colour(label, classes)}" '
        f'data-image="{index}" data-class="{label}"/>'
        for index, ((x, y), label) in enumerate(zip(places, sample.labels, strict=True))
    )
    return (
        f'<div><h3>{title}</h3><svg class="map" role="img" aria-label="map of {title}" '
        f'viewBox="0 0 {_SIZE} {_SIZE}">{dots}</svg></div>'
    )


def _legend(sample: Sample) -> str:
    shown = np.unique(sample.labels[sample.labels >= 0])
    classes = len(sample.class_names)
    names = "".join(
        f'<span data-class="{label}"><i style="background: {_colour(label, classes)}"></i>'
        f"{document.name(sample.class_names[label])}</span>"
        for label in shown
    )
    return f'<div class="classes">{names}</div>'


def _colour(label: int, classes: int) -> str:
    """Evenly spaced hues, of two lightnesses if there are many classes."""
    if label < 0:
        return "#808080"
    lightness = 38 + 20 * (label % 2) if classes > 8 else 48
    return f"hsl({360 * int(label) / max(classes, 1):.0f} 75% {lightness}%)"
