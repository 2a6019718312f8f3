"""What a run needs to continue beside its arrays: the item `data` of a checkpoint, which is JSON.

next_example         the position of the input pipeline
examples             training images of the data set; may be left out
interval, epoch_sums the running sums of each metric, see `ssljax.training.metrics.MetricSums`
unwritten            rows of the log that could not be written; may be left out
"""

from __future__ import annotations

import math
from typing import Any

from ssljax.runs.checkpoint_files import Unreadable

SUMS = ("interval", "epoch_sums")
KINDS = ("train", "probe", "validation")


def check(data: Any, step: int, batch_size: int) -> None:
    """Checks that a run can have saved this.

    Args:
      data: what was read.
      step: of the checkpoint.
      batch_size: of the run.

    Raises:
      Unreadable: it cannot; the message names the key, and what would be right.
    """
    _expect(isinstance(data, dict), "data/metadata must hold a JSON object", data)
    known = {"next_example", "examples", *SUMS, "unwritten"}
    for name in data.keys() - known:
        raise Unreadable(f"data/metadata has an unknown key {name!r:.50}; known: {sorted(known)}")
    position, right = data.get("next_example"), step * batch_size
    _expect(
        type(position) is int and position == right,
        f"next_example of data/metadata must be {right} (step {step} × batch size {batch_size})",
        position,
    )
    examples = data.get("examples", 1)
    _expect(
        type(examples) is int and examples > 0, "examples of data/metadata must be > 0", examples
    )
    for name in SUMS:
        sums = data.get(name)
        _expect(
            isinstance(sums, dict) and all(map(_are_sums, sums.values())),
            f"{name} of data/metadata must hold [Σ values, Σ weights] of each metric, as floats",
            sums,
        )
    rows = data.get("unwritten", [])
    _expect(
        isinstance(rows, list) and all(_is_row(row, step) for row in rows),
        f"unwritten of data/metadata must be rows of numbers up to step {step}",
        rows,
    )


def _expect(right: bool, what: str, found: Any) -> None:
    if not right:
        raise Unreadable(f"{what}, not {found!r:.50}")


def _are_sums(sums: Any) -> bool:
    """Whether it is a sum of values and one of weights, each float[] or float[K]."""
    if not isinstance(sums, list) or len(sums) != 2:
        return False
    values, weights = (part if isinstance(part, list) else [part] for part in sums)
    same_shape = isinstance(sums[0], list) == isinstance(sums[1], list)
    return (
        same_shape
        and len(values) == len(weights)
        and all(type(value) is float for value in (*values, *weights))
        and all(0 <= weight < math.inf for weight in weights)
    )


def _is_row(row: Any, step: int) -> bool:
    if not isinstance(row, dict) or row.get("kind") not in KINDS:
        return False
    numbers = [value for name, value in row.items() if name != "kind"]
    return (
        all(type(number) in (int, float) for number in numbers)
        and type(row.get("step")) is int
        and 0 <= row["step"] <= step
    )
