"""Which validation of a run is the best one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ssljax.methods.method import Method

Row = Mapping[str, Any]


def best_validation(method: Method | type[Method], rows: Iterable[Row]) -> Row | None:
    """The first validation with the best value of the method's `best_metric`.

    Validations whose loss or metric is NaN, infinite or missing are left out: their weights are of
    no use, whatever the other number is.

    Args:
      method: of the run.
      rows: of its validations, as in metrics.jsonl.

    Returns:
      None if there is none, or the method has no such metric.
    """
    name = method.best_metric
    if not name:
        return None
    known = [row for row in rows if _is_finite(row.get(name)) and _is_finite(row.get("loss"))]
    return max(known, key=lambda row: goodness(method, row), default=None)


def goodness(method: Method | type[Method], row: Row) -> float:
    """The `best_metric` of a validation, with the sign that makes more of it better."""
    return float(row[method.best_metric]) * (1 if method.best_is_max else -1)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
