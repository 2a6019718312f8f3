"""The features of labelled images, whole, for probes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.image_source import ImageSource
from ssljax.devices import processes
from ssljax.runs.feature_extraction import FeatureExtractor
from ssljax.settings.errors import Diverged

_MOST = 10_000  # numbers of an image


class LabelledFeatures(NamedTuple):
    """Of the images of a split, in order.

    Attributes:
      values: float32[N, D].
      labels: int32[N].
    """

    values: np.ndarray
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> LabelledFeatures:
        """Those of some images."""
        return LabelledFeatures(self.values[indices], self.labels[indices])


def extract(
    extractor: FeatureExtractor,
    weights: Any,
    images: ImageSource,
    stop: Callable[[], None] = lambda: None,
) -> LabelledFeatures:
    """The features of every image, once each, in every process.

    Args:
      extractor: for the layer; see `flat`.
      weights: from `extractor.place`.
      images: with labels.
      stop: called after every batch; it raises to end early.

    Raises:
      Diverged: they are not finite.
    """
    values, about = [], []
    for batch, found in extractor.batches(weights, images):
        values.append(flat(found))
        about.append(np.stack([batch["label"], batch["mask"]], axis=1))
        stop()
    # Every process has a part of every batch: [processes, batches, rows of a part, …].
    whole_values, whole_about = (
        np.swapaxes(processes.gather(np.stack(parts)), 0, 1) for parts in (values, about)
    )
    counts = whole_about[..., 1].reshape(-1) == 1
    features = whole_values.reshape(-1, whole_values.shape[-1])[counts]
    if not np.isfinite(features).all():
        raise Diverged("the features are not finite: the run has diverged")
    labels = whole_about[..., 0].reshape(-1)[counts]
    return LabelledFeatures(features, labels.astype(np.int32))


def flat(outputs: np.ndarray) -> np.ndarray:
    """The outputs of a layer as one vector for each image.

    A layer with height and width and more than 10,000 numbers is averaged over a coarser grid, the
    finest with at most so many (Goyal, Mahajan, Gupta and Misra, 2019, "Scaling and Benchmarking
    Self-Supervised Visual Representation Learning", take about 9,000). Its cells are those of
    PyTorch's `adaptive_avg_pool2d`.

    Args:
      outputs: float32[N, D] or float32[N, H, W, C].

    Returns:
      float32[N, D].
    """
    if outputs.ndim == 4 and outputs[0].size > _MOST:
        height, width, channels = outputs.shape[1:]
        side = max(1, math.isqrt(_MOST // channels))
        for axis, size in ((1, height), (2, width)):
            cells = min(side, size)
            bounds = [(i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)]
            means = [outputs.take(range(*each), axis).mean(axis) for each in bounds]
            outputs = np.stack(means, axis)
    return outputs.reshape(len(outputs), -1)
