"""Slices of TPU chips, and their devices for compiling where there are none."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
from typing import Any

from ssljax.errors import InputError
from ssljax.roofline.chips import CHIPS, Chip

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
# 1, 4, 8, 16, 32, 64, 128 and 256 chips. A single v4 is not rented out.
SLICES = {"v4": _CUBIC, "v5e": _FLAT, "v5p": _CUBIC, "v6e": _FLAT}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips in a grid, each linked to its neighbours.

    Attributes:
      chip: what it is made of.
      shape: chips along each axis.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As `--topology` takes it."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.shape)

    @property
    def links(self) -> int:
        """Links of a chip in a corner of the grid, which has the fewest.

        An axis is closed to a ring, which gives each chip two links, where it has 16 chips (grids),
        or where the slice consists of whole cubes of 4×4×4. Source: Austin et al., "How to Scale
        Your Model" (2025), https://jax-ml.github.io/scaling-book/tpus.
        """
        if len(self.shape) == 3:
            rings = [all(length % 4 == 0 for length in self.shape)] * 3
        else:
            rings = [length == 16 for length in self.shape]
        return sum(1 + ring for length, ring in zip(self.shape, rings, strict=True) if length > 1)


def parse(topology: str) -> Slice:
    """The slice of a name such as `v5e:2x4`.

    Raises:
      InputError: there is none of that name; the known ones are listed.
    """
    name, _, shape = topology.partition(":")
    if shape not in SLICES.get(name, ()):
        known = {name: SLICES[name]} if name in SLICES else SLICES
        lists = "; ".join(f"{chip}: {', '.join(shapes)}" for chip, shapes in known.items())
        raise InputError(f"--topology: {topology!r} is no known CHIP:SHAPE; known are {lists}")
    return Slice(CHIPS[name], tuple(map(int, shape.split("x"))))


def prepare_environment() -> None:
    """Lets libtpu work on a machine without a TPU; before jax is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # no metadata server to be asked
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # no TPU that only one process could use
    for name, value in (
        ("TPU_ACCELERATOR_TYPE", "v5litepod-8"), ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_STDERR_LOG_LEVEL", "3"), ("TPU_MIN_LOG_LEVEL", "3"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)


def check_libtpu() -> None:
    """Makes sure that there is a compiler for TPUs.

    Raises:
      InputError: libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"--topology needs libtpu: pip install '{required_libtpu()}', into an environment of "
            "its own, for beside it several processes cannot train on CPUs"
        )


def required_libtpu() -> str:
    """The version that the extra `tpu` of the installed jax names, such as `libtpu==0.0.42.*`."""
    return next(
        requirement.partition(";")[0].strip()
        for requirement in importlib.metadata.requires("jax") or []
        if requirement.startswith("libtpu")
    )


def devices(tpu_slice: Slice) -> list[Any]:
    """The slice's devices, one for each chip; programs can be compiled for them, not run."""
    from jax.experimental import topologies

    options: dict[str, Any] = {}
    if tpu_slice.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if tpu_slice.chip.name == "v4":  # both cores as one device, as jax has it where it trains
        options["chip_config_name"] = "megacore"
    return list(topologies.get_topology_desc(tpu_slice.name, "tpu", **options).devices)
