"""How many devices a CPU is split into."""

from __future__ import annotations

import math
import os

import jax

_FEWEST_EXAMPLES = 16  # of a batch, for each device
# With this many parameters, computing and updating a copy of them on each device costs more than
# the devices gain; see docs/performance.md.
_LARGEST_MODEL = 40e6


def choose(parameters: int, batch_size: int, cores: int) -> int:
    """The number of devices that is likely to be the fastest.

    XLA divides one operation after the other among the cores, and does not divide many of them at
    all. A device for each core keeps all cores busy, but each holds a copy of the parameters.

    Args:
      parameters: of the network.
      batch_size: images that are computed at once; the number divides it.
      cores: of the CPU.
    """
    if parameters > _LARGEST_MODEL:
        return 1
    devices = min(cores, max(1, batch_size // _FEWEST_EXAMPLES))
    while batch_size % devices:
        devices -= 1
    return devices


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def requested() -> int | None:
    """The number that the environment asks for, if it does."""
    count = int(jax.config.values["jax_num_cpu_devices"])
    if count >= 0:
        return count
    for flag in os.environ.get("XLA_FLAGS", "").split():
        name, _, value = flag.partition("=")
        if name == "--xla_force_host_platform_device_count" and value.isdigit():
            return int(value)
    return None


def split(*devices: int) -> None:
    """Splits the CPU into devices, unless the environment asks for another number.

    Call it before jax looks at its devices.

    Args:
      *devices: the numbers that several runs want; their greatest common divisor is used.
    """
    if requested() is None:
        jax.config.update("jax_num_cpu_devices", math.gcd(*devices))
