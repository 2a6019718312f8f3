"""Bounds on the speed of a step, from its cost and the limits of a chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ssljax.roofline.chips import Chip
from ssljax.roofline.collectives import sent_bytes
from ssljax.roofline.slices import Slice


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a step on one device.

    Attributes:
      images: the device's share of the batch.
      flops: FLOPs; a multiply-add is two.
      memory_bytes: bytes read from and written to the device's memory.
      collective_bytes: bytes by kind of collective; see `collectives.collective_bytes`.
    """

    images: int
    flops: float
    memory_bytes: float
    collective_bytes: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The minimum time in seconds that each part of a chip needs for a step."""

    arithmetic: float
    memory: float
    interconnect: float

    @property
    def binds(self) -> str:
        """The name of the part that needs the most time."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]

    @property
    def overlapped(self) -> float:
        """Seconds per step if all parts work at the same time. No step is faster."""
        return max(dataclasses.astuple(self))

    @property
    def in_turn(self) -> float:
        """Seconds per step if only one part works at a time."""
        return sum(dataclasses.astuple(self))


def bounds(cost: Cost, chip: Chip, tpu_slice: Slice | None = None) -> Bounds:
    """The roofline of a step.

    The interconnect is bounded by a chip in a corner of the slice, which has the fewest links.

    Args:
      cost: the cost of the step on one device.
      chip: the chip of the device.
      tpu_slice: the slice that the step runs on, or None for a single chip.
    """
    interconnect = 0.0
    if tpu_slice is not None and tpu_slice.chips > 1:
        sent = sent_bytes(cost.collective_bytes, tpu_slice.chips)
        interconnect = sent / (tpu_slice.links * chip.link)
    return Bounds(cost.flops / chip.flops, cost.memory_bytes / chip.bandwidth, interconnect)
