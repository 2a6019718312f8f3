"""Normalises a batch with its own statistics, with the gradient written out.

Automatic differentiation of mean and variance keeps the centred input for the backward pass and
computes each part of the gradient in a pass of its own. Here the input itself is kept, which the
convolution before has written anyway. Backward, two sums over the batch come first, and then one
pass:

    dx = scale / σ · (dy - mean(dy) - x̂ · mean(dy · x̂)), with x̂ = (x - mean) / σ

Source: Ioffe and Szegedy (2015), "Batch Normalization", section 3.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from ssljax.models import collectives

Kept = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises over all axes but the last, and over the devices of a step.

    The gradients of scale and bias are those of this device's examples, so that a step sums them
    over the devices as it does with all others.

    Args:
      x: float[…, C].
      scale: float32[C].
      bias: float32[C].
      epsilon: added to the variance.

    Returns:
      float32[…, C]; and float32[C] mean and biased variance, through which no gradient flows.
    """
    return _forward(x, scale, bias, epsilon)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Kept]:
    values = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean = collectives.mean(values.mean(axes))
    square = collectives.mean(jnp.square(values).mean(axes))
    var = jnp.maximum(square - jnp.square(mean), 0)
    inverse = jax.lax.rsqrt(var + epsilon)
    y = (values - mean) * (inverse * scale) + bias
    return (y, mean, var), (x, scale, mean, inverse)


def _backward(
    epsilon: float, kept: Kept, cotangents: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = kept
    dy = cotangents[0]
    centred = x.astype(jnp.float32) - mean
    axes = tuple(range(x.ndim - 1))
    of_bias = dy.sum(axes)
    of_scale = (dy * centred).sum(axes) * inverse
    size = x.size // x.shape[-1]
    mean_dy = collectives.mean(of_bias) / size
    slope = collectives.mean(of_scale) / size * inverse
    of_x = (dy - mean_dy - centred * slope) * (inverse * scale)
    return of_x.astype(x.dtype), of_scale, of_bias


normalize.defvjp(_forward, _backward)
