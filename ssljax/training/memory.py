"""Settings that need more memory than there is are named before anything is allocated."""

from __future__ import annotations

import math
from typing import Any

import jax

from ssljax.files.memory import total_memory
from ssljax.runs.run import Run
from ssljax.settings.errors import InputError


def check_memory(run: Run, state: Any) -> None:
    """Checks that a batch fits into this machine's memory, and the state into that of its devices.

    Activations are not counted, so settings that pass may still be too large. Settings that are
    refused cannot work.

    Args:
      run: with its config.
      state: of training, as `jax.ShapeDtypeStruct`s.

    Raises:
      InputError: they do not fit.
    """
    config, host = run.config, total_memory()
    rows = -(-config.batch_size // jax.process_count())
    layout = run.layout(rows).values()
    batch = sum(math.prod(shape) * dtype.itemsize for shape, dtype in layout)
    size = run.method.delivered_size
    _refuse(f"batch_size={config.batch_size} with images of {size} px", batch, host, "this machine")
    # There is a gradient for each parameter, and a copy of everything on each device.
    copy = _bytes(state) + _bytes(run.variable_shapes()[0])
    what = f"a state of {copy / 4e6:,.0f} million numbers, which model.* and method.* decide,"
    if jax.default_backend() == "cpu":
        _refuse(what, copy * jax.local_device_count() + batch, host, "this machine")
    elif limit := (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit"):
        _refuse(what, copy, limit, "a device")


def _bytes(arrays: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(arrays))


def _refuse(what: str, needed: int, there: int, where: str) -> None:
    if needed > there:
        raise InputError(
            f"{what} needs at least {needed / 1e9:,.3g} GB, and {where} has {there / 1e9:,.3g} GB"
        )
