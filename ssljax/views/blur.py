"""Gaussian blur of planar images, float32[3, H, W]; vmap it over a batch."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def kernel_size(side: int) -> int:
    """A tenth of the image's side, made odd: 23 at 224 px.

    Source: SimCLR, appendix A, and the official code of BYOL, which rounds so.
    """
    return max(3, side // 10 // 2 * 2 + 1)


def gaussian(sigma: jax.Array | float, size: int) -> jax.Array:
    """The weights of a Gaussian of a standard deviation in pixels: float32[size], of sum 1."""
    steps = jnp.arange(size, dtype=jnp.float32) - size // 2
    weights = jnp.exp(-0.5 * (steps / sigma) ** 2)
    return weights / weights.sum()


def blur(image: jax.Array, weights: jax.Array) -> jax.Array:
    """Convolves the rows and the columns with weights, with the image reflected at its edges.

    Args:
      image: float32[3, H, W].
      weights: float32[K], symmetric, K odd and at most twice the side less one.
    """
    size, half = weights.shape[0], weights.shape[0] // 2
    for axis in (1, 2):
        pads = [(half, half) if axis == a else (0, 0) for a in range(3)]
        # Without the barriers, XLA computes their arguments anew for every weight.
        image = jax.lax.optimization_barrier(image)
        padded = jax.lax.optimization_barrier(jnp.pad(image, pads, mode="reflect"))
        side = image.shape[axis]
        shifted = (jax.lax.slice_in_dim(padded, k, k + side, axis=axis) for k in range(size))
        image = functools.reduce(jnp.add, map(jnp.multiply, weights, shifted))
    return image
