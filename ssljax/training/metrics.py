"""Metrics as sums and weights, which are exact for batches of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class MetricSums:
    """Running sums of each metric, in float64 on the host.

    They are Σ values and Σ weights, and when evaluating also Σ values², Σ values × weights and
    Σ weights², which standard errors need; a metric of whole batches has none.
    """

    def __init__(self, sums: Mapping[str, Any] | None = None):
        """Empty, or from the result of `to_json`."""
        self._sums: dict[str, list[np.ndarray]] = {}
        self.add(sums or {})

    def add(self, sums: Mapping[str, Sequence[Any]]) -> None:
        """Adds the sums of one batch, each float[] or float[K]."""
        for name, parts in sums.items():
            old = self._sums.get(name, [np.zeros(())] * len(parts))
            new = (np.asarray(part, np.float64) for part in parts)
            self._sums[name] = [a + b for a, b in zip(old, new, strict=True)]

    def stranger(self, sums: Mapping[str, Sequence[Any]]) -> str:
        """A metric that these sums have and those of a batch lack, or have in another shape; or ''.

        The other way round, a metric without sums so far, only counts if there are others.
        """
        for name in self._sums.keys() | (sums.keys() if self._sums else ()):
            own, other = self._sums.get(name, ()), sums.get(name, ())
            if [np.shape(part) for part in own] != [np.shape(part) for part in other]:
                return name
        return ""

    def means(self) -> dict[str, float]:
        """Σ values / Σ weights; a vector's mean is over its entries that have any weight."""
        means = {}
        for name, (value, weight, *_) in self._sums.items():
            value, weight = np.atleast_1d(value), np.atleast_1d(weight)
            seen = weight > 0
            means[name] = float(np.mean(value[seen] / weight[seen])) if seen.any() else float("nan")
        return means

    def standard_errors(self) -> dict[str, float]:
        """How far each mean may be from that of all images which the examples are a sample of.

        Of a share p of N examples it is √(p (1 - p) / N). In general, Σ values / Σ weights = m has
        the variance Σ (value - m × weight)² / (Σ weights)², and entries of a vector are
        independent. Metrics without sums of squares are left out.
        """
        errors = {}
        for name, parts in self._sums.items():
            if len(parts) == 2:
                continue
            value, weight, squares, products, weights = np.atleast_2d(np.transpose(parts)).T
            seen = weight > 0
            mean = value[seen] / weight[seen]
            rest = squares[seen] - 2 * mean * products[seen] + mean**2 * weights[seen]
            variance = np.maximum(rest, 0) / weight[seen] ** 2
            errors[name] = float(np.sqrt(variance.sum()) / max(1, seen.sum()))
        return errors

    def to_json(self) -> dict[str, Any]:
        """All sums as JSON values, without loss of precision."""
        return {
            name: [np.asarray(part).tolist() for part in parts]
            for name, parts in self._sums.items()
        }
