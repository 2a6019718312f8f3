"""GELU with its gradient written out.

Automatic differentiation keeps four arrays of the input's size for the backward pass, which a loop
over blocks writes and reads. Here the input itself is kept, which the dense layer before has
written anyway.

Source: Hendrycks and Gimpel (2016), "Gaussian Error Linear Units (GELUs)", section 2; the exact
form, which PyTorch has by default.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The input times the distribution function of the standard normal distribution, x · Φ(x).

    Args:
      x: float array of any shape.

    Returns:
      An array like x.
    """
    return (x * _distribution(x)).astype(x.dtype)


def _distribution(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x.astype(jnp.float32) * math.sqrt(0.5)))


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gelu(x), x


def _backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    values = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * jnp.square(values)) / math.sqrt(2 * math.pi)
    return (((_distribution(x) + values * density) * cotangent).astype(x.dtype),)


gelu.defvjp(_forward, _backward)
