"""How fast a step can be at most: what it costs, set against what the chip can do."""

from __future__ import annotations

import dataclasses

from ssljax.roofline.chips import Chip
from ssljax.roofline.slices import Slice


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a step, for one device.

    Attributes:
      images: its part of the batch.
      flops: additions and multiplications.
      memory_bytes: to and from its memory.
      all_reduce_bytes: of what it sums up with the other devices.
    """

    images: int
    flops: float
    memory_bytes: float
    all_reduce_bytes: float


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The least time that each of a chip's parts needs for a step, in seconds."""

    arithmetic: float
    memory: float
    interconnect: float

    @property
    def binds(self) -> str:
        """The part that needs the longest."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]

    @property
    def overlapped(self) -> float:
        """A step in which all three work all the time: no step is faster."""
        return max(dataclasses.astuple(self))

    @property
    def in_turn(self) -> float:
        """A step in which one waits for the other, each at its best."""
        return sum(dataclasses.astuple(self))


def bounds(cost: Cost, chip: Chip, tpu_slice: Slice | None = None) -> Bounds:
    """The roofline of a step.

    Summing n devices' arrays up, each has to send 2·(n-1)/n of their bytes (reduce-scatter, then
    all-gather); the slowest, in a corner, has the fewest links.

    Args:
      cost: of the step.
      chip: that it runs on.
      tpu_slice: of such chips; None is one chip.
    """
    interconnect = 0.0
    if tpu_slice is not None and tpu_slice.chips > 1:
        sent = 2 * cost.all_reduce_bytes * (tpu_slice.chips - 1) / tpu_slice.chips
        interconnect = sent / (tpu_slice.links * chip.link)
    return Bounds(cost.flops / chip.flops, cost.memory_bytes / chip.bandwidth, interconnect)
