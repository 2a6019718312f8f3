"""Metrics as sums and weights, which are exact for batches of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class MetricSums:
    """Running (Σ values, Σ weights) of each metric, in float64 on the host."""

    def __init__(self, sums: Mapping[str, Any] | None = None):
        """Empty, or from the result of `to_json`."""
        self._sums = {
            name: (np.asarray(value, np.float64), np.asarray(weight, np.float64))
            for name, (value, weight) in (sums or {}).items()
        }

    def add(self, sums: Mapping[str, tuple[Any, Any]]) -> None:
        """Adds the sums of one batch, each float[] or float[K]."""
        for name, (value, weight) in sums.items():
            old_value, old_weight = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (
                old_value + np.asarray(value, np.float64),
                old_weight + np.asarray(weight, np.float64),
            )

    def means(self) -> dict[str, float]:
        """Σ values / Σ weights; a vector's mean is over its entries that have any weight."""
        means = {}
        for name, (value, weight) in self._sums.items():
            value, weight = np.atleast_1d(value), np.atleast_1d(weight)
            seen = weight > 0
            means[name] = float(np.mean(value[seen] / weight[seen])) if seen.any() else float("nan")
        return means

    def to_json(self) -> dict[str, Any]:
        """All sums as JSON values, without loss of precision."""
        return {
            name: [np.asarray(value).tolist(), np.asarray(weight).tolist()]
            for name, (value, weight) in self._sums.items()
        }
