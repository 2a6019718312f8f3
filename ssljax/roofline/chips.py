"""What a chip can do at most, from its maker's public documentation.

Sources: https://cloud.google.com/tpu/docs/v4, /v5e, /v5p-training and /v6e; where they give the
interconnect of a chip in both directions together, a link is that by 2 and by its 4 or 6 ports. The
links of v4, which its page leaves out: Jouppi et al. (2023), arXiv:2304.01433. Hosts: the machine
types ct4p-hightpu-4t, ct5lp-hightpu-4t, ct5p-hightpu-4t, ct6e-standard-4t. NVIDIA's data sheet of
the H100 SXM, without sparsity.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip's limits.

    Attributes:
      name: as in the topologies' names.
      device_kind: how jax's `device.device_kind` starts.
      flops: bfloat16 FLOP/s.
      memory: bytes of HBM.
      bandwidth: of the HBM, in bytes/s.
      link: bytes/s over one link to a neighbour, in one direction; 0: it has none.
      vcpus: of its host, for each chip; two of them are a core. 0: not known.
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
        # jax's name for v5p is a part of v5e's, which therefore comes first.
        Chip("v5e", "TPU v5 lite", 197e12, 16 * _GIB, 819e9, 50e9, 28),
        Chip("v5p", "TPU v5", 459e12, 95 * _GIB, 2765e9, 100e9, 52),
        Chip("v6e", "TPU v6 lite", 918e12, 32 * _GIB, 1638e9, 100e9, 45),
        Chip("h100", "NVIDIA H100 80GB HBM3", 989e12, 80 * _GIB, 3350e9),
    )
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip with this `device.device_kind`; None of one that is not in the table."""
    return next((chip for chip in CHIPS.values() if device_kind.startswith(chip.device_kind)), None)
