"""Pooling as PyTorch has it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def max_pool(x: jax.Array, padding: int = 0) -> jax.Array:
    """3×3 maximum with stride 2 over [B, H, W, C].

    It is the maximum of nine strided slices: the gradient of XLA's own pooling (select-and-scatter)
    is several times slower on CPU. The gradient is shared among equal values.

    Args:
      x: float[B, H, W, C].
      padding: rows and columns of -∞ on every side.
    """
    if padding:
        sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        x = jnp.pad(x, sides, constant_values=-jnp.inf)
    height, width = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    for axis, size in ((1, height), (2, width)):
        slices = [
            jax.lax.slice_in_dim(x, start, start + 2 * size - 1, stride=2, axis=axis)
            for start in range(3)
        ]
        x = jnp.maximum(jnp.maximum(slices[0], slices[1]), slices[2])
    return x


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages [B, H, W, C] over size×size bins, as PyTorch's AdaptiveAvgPool2d does.

    Bins may overlap, and they repeat pixels if H or W is less than size.
    """
    if x.shape[1:3] == (size, size):
        return x
    rows = jnp.asarray(_bins(x.shape[1], size), x.dtype)
    columns = jnp.asarray(_bins(x.shape[2], size), x.dtype)
    return jnp.einsum("rh,bhwc,sw->brsc", rows, x, columns)


def _bins(length: int, size: int) -> np.ndarray:
    """float64[size, length]: each row averages one bin."""
    matrix = np.zeros((size, length))
    for index in range(size):
        start, stop = index * length // size, -(-(index + 1) * length // size)
        matrix[index, start:stop] = 1 / (stop - start)
    return matrix
