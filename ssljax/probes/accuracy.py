"""What is reported of the scores that a probe gives the classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssljax.files.packed_bits import packed


def accuracies(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The shares of images whose class is among the first ones.

    Among equal scores the class with the lower number is first.

    Args:
      scores: float[N, K].
      labels: int[N].

    Returns:
      `top1`; `top3` and `top5` if there are more classes than that; and `class_mean`, the mean of
      the classes' own top-1. `hits`: whether each image's class is the first one, see `packed`.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    places = np.argmax(order == labels[:, None], axis=1)
    found = {
        f"top{count}": float(np.mean(places < count))
        for count in (1, 3, 5)
        if count < scores.shape[1]
    }
    of_classes = [np.mean(places[labels == label] < 1) for label in np.unique(labels)]
    hits = packed(places < 1)
    return found | {"class_mean": float(np.mean(of_classes)), "hits": hits}
