"""Layer normalisation, with the gradient written out.

Automatic differentiation keeps several arrays of the input's size for the backward pass. Here only
the input is kept, and two numbers for each token. Backward, with x̂ = (x - mean) / σ:

    dx = (g - mean(g) - x̂ · mean(g · x̂)) / σ, with g = scale · dy

Source: Ba, Kiros and Hinton (2016), "Layer Normalization", section 3.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-6  # timm's
_Kept = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


class LayerNorm(nn.Module):
    """Normalises the last axis; statistics are in float32.

    Attributes:
      dtype: of the result.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[…, D] to dtype[…, D]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return normalize(x, scale, bias).astype(self.dtype)


@jax.custom_vjp
def normalize(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalises the last axis.

    Args:
      x: float[…, D].
      scale: float32[D].
      bias: float32[D].

    Returns:
      float32[…, D].
    """
    return _forward(x, scale, bias)[0]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, _Kept]:
    values = x.astype(jnp.float32)
    mean = values.mean(-1, keepdims=True)
    # E[x²] - E[x]² would be off by more than float32's rounding.
    var = jnp.square(values - mean).mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(var + EPSILON)
    return (values - mean) * inverse * scale + bias, (x, scale, mean, inverse)


def _backward(kept: _Kept, dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = kept
    normal = (x.astype(jnp.float32) - mean) * inverse
    axes = tuple(range(x.ndim - 1))
    g = dy * scale
    mean_g = g.mean(-1, keepdims=True)
    slope = (g * normal).mean(-1, keepdims=True)
    of_x = (g - mean_g - normal * slope) * inverse
    return of_x.astype(x.dtype), (dy * normal).sum(axes), dy.sum(axes)


normalize.defvjp(_forward, _backward)
