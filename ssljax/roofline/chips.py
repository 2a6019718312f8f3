"""The limits of chips, from the documentation of their makers.

Sources: https://cloud.google.com/tpu/docs/v4, /v5e, /v5p-training and /v6e. They give the total
bandwidth of a chip's interconnect in both directions. The bandwidth of a link is this number
divided by 2 and by the number of ports, 4 or 6. The page of v4 does not describe the links; their
bandwidth is from Jouppi et al. (2023), arXiv:2304.01433. The hosts are the machine types
ct4p-hightpu-4t, ct5lp-hightpu-4t, ct5p-hightpu-4t and ct6e-standard-4t. The H100 is the SXM model,
without sparsity, from NVIDIA's data sheet.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """The limits of a chip.

    Attributes:
      name: the name of the chip in the names of topologies.
      device_kind: the prefix of JAX's `device.device_kind`.
      flops: bfloat16 FLOP/s.
      memory: HBM in bytes.
      bandwidth: HBM bandwidth in bytes/s.
      link: bandwidth of one link to a neighbour in one direction, in bytes/s; 0 if there are none.
      vcpus: the host's virtual CPUs per chip, two per core; 0 if unknown.
    """

    name: str
    device_kind: str
    flops: float
    memory: int
    bandwidth: float
    link: float = 0
    vcpus: int = 0


_GIB = 1 << 30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "TPU v4", 275e12, 32 * _GIB, 1200e9, 50e9, 60),
        # v5e comes before v5p because the device kind of v5p is a prefix of that of v5e.
        Chip("v5e", "TPU v5 lite", 197e12, 16 * _GIB, 819e9, 50e9, 28),
        Chip("v5p", "TPU v5", 459e12, 95 * _GIB, 2765e9, 100e9, 52),
        Chip("v6e", "TPU v6 lite", 918e12, 32 * _GIB, 1638e9, 100e9, 45),
        Chip("h100", "NVIDIA H100 80GB HBM3", 989e12, 80 * _GIB, 3350e9),
    )
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip with the given `device.device_kind`, or None if it is not in the table."""
    return next((chip for chip in CHIPS.values() if device_kind.startswith(chip.device_kind)), None)
