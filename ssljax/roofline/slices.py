"""TPU slices, and device descriptions that programs can be compiled for without a TPU."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
from typing import Any

from ssljax.roofline.chips import CHIPS, Chip
from ssljax.settings.errors import InputError

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
# 1, 4, 8, 16, 32, 64, 128 and 256 chips. Google Cloud does not offer a single v4 chip.
SLICES = {"v4": _CUBIC, "v5e": _FLAT, "v5p": _CUBIC, "v6e": _FLAT}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A grid of chips with links between neighbours.

    Attributes:
      chip: the type of chip.
      shape: the number of chips along each axis.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name that `--topology` takes, such as `v5e:2x4`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """The number of chips."""
        return math.prod(self.shape)

    @property
    def links(self) -> int:
        """The number of links of a chip in a corner of the grid, which has the fewest.

        A chip in a corner has one link along an axis, or two if the axis is a ring. In a 2D slice,
        an axis of 16 chips is a ring. In a 3D slice, all axes are rings if the slice consists of
        whole 4×4×4 cubes. Source: Austin et al., "How to Scale Your Model" (2025),
        https://jax-ml.github.io/scaling-book/tpus.
        """
        if len(self.shape) == 3:
            rings = [all(length % 4 == 0 for length in self.shape)] * 3
        else:
            rings = [length == 16 for length in self.shape]
        return sum(1 + ring for length, ring in zip(self.shape, rings, strict=True) if length > 1)


def parse(topology: str) -> Slice:
    """Returns the slice with a name such as `v5e:2x4`.

    Raises:
      InputError: the name is unknown. The message lists the known names.
    """
    name, _, shape = topology.partition(":")
    if shape not in SLICES.get(name, ()):
        known = {name: SLICES[name]} if name in SLICES else SLICES
        lists = "; ".join(f"{chip}: {', '.join(shapes)}" for chip, shapes in known.items())
        raise InputError(f"--topology: {topology!r} is not a known CHIP:SHAPE; known are {lists}")
    return Slice(CHIPS[name], tuple(map(int, shape.split("x"))))


def prepare_environment() -> None:
    """Sets environment variables so that libtpu works without a TPU.

    Call it before JAX is imported.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no metadata server
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # there is no TPU to reserve for one process
    for name, value in (
        ("TPU_ACCELERATOR_TYPE", "v5litepod-8"), ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_STDERR_LOG_LEVEL", "3"), ("TPU_MIN_LOG_LEVEL", "3"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)


def check_libtpu() -> None:
    """Checks that the TPU compiler is installed.

    Raises:
      InputError: libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"--topology needs libtpu: pip install '{required_libtpu()}'. Use a separate "
            "environment, because training with several CPU processes fails if libtpu is installed"
        )


def required_libtpu() -> str:
    """The requirement of the installed JAX's extra `tpu`, such as `libtpu==0.0.42.*`."""
    return next(
        requirement.partition(";")[0].strip()
        for requirement in importlib.metadata.requires("jax") or []
        if requirement.startswith("libtpu")
    )


def devices(tpu_slice: Slice) -> list[Any]:
    """The devices of the slice, one per chip. Programs can be compiled for them but not run."""
    from jax.experimental import topologies

    options: dict[str, Any] = {}
    if tpu_slice.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if tpu_slice.chip.name == "v4":  # one device for both cores, as on a real v4
        options["chip_config_name"] = "megacore"
    return list(topologies.get_topology_desc(tpu_slice.name, "tpu", **options).devices)
