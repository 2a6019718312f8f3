"""How many labels a pretext task is worth: with how many random weights are as good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssljax.studies.results import best


def needed(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """The share of the labels at which a curve reaches an accuracy.

    Between two shares, the accuracy is taken to be linear in the logarithm of the share.

    Args:
      curve: shares in increasing order, and the accuracies there.
      target: an accuracy.

    Returns:
      The first share with that accuracy, the smallest one if the curve begins above it, and None if
      it does not get there.
    """
    for index, (share, accuracy) in enumerate(curve):
        if accuracy < target:
            continue
        if not index:
            return share
        before, below = curve[index - 1]
        part = (target - below) / (accuracy - below)
        return math.exp(math.log(before) + part * (math.log(share) - math.log(before)))
    return None


def random_shares(results: Mapping[str, Any]) -> list[float]:
    """The shares of the labels that random weights were trained on, in increasing order."""
    random = _random(results)
    return sorted(share for share, _ in _curve(random, results["metric"])) if random else []


def worth(results: Mapping[str, Any]) -> dict[str, dict[float, float | None]]:
    """The shares that random weights need to reach what each other arm reaches.

    Args:
      results: see `ssljax.studies.results.collect`.

    Returns:
      For each arm that does not start from random weights, by its shares of the labels: the share
      that random weights need, see `needed`. {} if they were trained on one share only.
    """
    random = _random(results)
    curve = sorted(_curve(random, results["metric"])) if random else []
    if len(curve) < 2:
        return {}
    return {
        name: {
            share: needed(curve, accuracy)
            for share, accuracy in sorted(_curve(arm, results["metric"]), reverse=True)
        }
        for name, arm in results["arms"].items()
        if arm["start"] != "random"
    }


def _random(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((arm for arm in results["arms"].values() if arm["start"] == "random"), None)


def _curve(arm: Mapping[str, Any], metric: str) -> list[tuple[float, float]]:
    return [(share["fraction"], best(share)["mean"][metric]) for share in arm["labels"].values()]
