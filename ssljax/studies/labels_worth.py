"""How many labels a pretext task is worth: with how many random weights are as good."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
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
    return sorted(_of_random(results))


def worth(results: Mapping[str, Any]) -> dict[str, dict[float, float | None]]:
    """The shares that random weights need to reach what each other arm reaches.

    Seeds decide which labels are drawn, so an arm is compared with random weights of the same
    seeds. Seeds that only one of them has are left out.

    Args:
      results: see `ssljax.studies.results.collect`.

    Returns:
      For each arm that does not start from random weights, by its shares of the labels: the share
      that random weights need, see `needed`. {} if they were trained on one share only.
    """
    random = _of_random(results)
    if len(random) < 2:
        return {}
    everywhere = set.intersection(*map(set, random.values()))
    found: dict[str, dict[float, float | None]] = {}
    for name, arm in results["arms"].items():
        if arm["start"] == "random":
            continue
        found[name] = {}
        for share, ours in sorted(_by_share(arm, results["metric"]).items(), reverse=True):
            if seeds := everywhere & set(ours):
                curve = [(part, _mean(random[part], seeds)) for part in sorted(random)]
                found[name][share] = needed(curve, _mean(ours, seeds))
    return found


_Accuracies = dict[float, dict[int, float]]  # by share of the labels and seed


def _of_random(results: Mapping[str, Any]) -> _Accuracies:
    arms = [arm for arm in results["arms"].values() if arm["start"] == "random"]
    return _by_share(arms[0], results["metric"]) if arms else {}


def _by_share(arm: Mapping[str, Any], metric: str) -> _Accuracies:
    return {
        share["fraction"]: {run["seed"]: run["test"][metric] for run in best(share)["runs"]}
        for share in arm["labels"].values()
    }


def _mean(accuracies: Mapping[int, float], seeds: Collection[int]) -> float:
    return statistics.mean(accuracies[seed] for seed in seeds)
