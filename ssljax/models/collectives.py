"""What the devices compute together inside a step: means and gathered batches.

A step runs on each device on its part of the batch, over the axis `AXIS`. Outside a step, for
example when features are extracted, there is no axis and the device's batch is the whole one.
"""

from __future__ import annotations

import jax

AXIS = "data"


def device_count() -> int:
    """The number of devices that run the step; 1 outside a step."""
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:  # the axis is not bound
        return 1


def device_index() -> jax.Array | int:
    """The place of this device among them; 0 outside a step."""
    return jax.lax.axis_index(AXIS) if device_count() > 1 else 0


def mean(value: jax.Array) -> jax.Array:
    """The mean of a value over the devices, whose parts of the batch have equal sizes."""
    return jax.lax.pmean(value, AXIS) if device_count() > 1 else value


def gather(value: jax.Array) -> jax.Array:
    """The whole batch, [B, …], from each device's part, [b, …]."""
    return jax.lax.all_gather(value, AXIS, tiled=True) if device_count() > 1 else value
