"""Initial weights of convolutions and dense layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

INITIALIZERS = ("pytorch", "lecun_normal", "xavier", "normal")


def initializers(
    name: str, fan_in: int
) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
    """The initialisers of kernels and of biases.

    Args:
      name: `pytorch`; `lecun_normal`: Flax's default, whose weights have √3 times the standard
        deviation; `xavier`: uniform (Glorot and Bengio, 2010); or `normal`, with a standard
        deviation of 0.02. All but the first have zero biases.
      fan_in: the number of inputs of an output.
    """
    if name == "lecun_normal":
        return nn.initializers.lecun_normal(), nn.initializers.zeros
    if name == "xavier":
        return nn.initializers.xavier_uniform(), nn.initializers.zeros
    if name == "normal":
        return nn.initializers.normal(0.02), nn.initializers.zeros
    return pytorch_uniform(fan_in), pytorch_uniform(fan_in)


def pytorch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for kernels and biases of both layers: U(-1/√fan_in, 1/√fan_in)."""
    bound = 1 / math.sqrt(fan_in)

    def init(
        key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
