"""Initial weights of convolutions and dense layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

INITIALIZERS = ("pytorch", "lecun_normal")


def initializers(
    name: str, fan_in: int
) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
    """The initialisers of kernels and of biases.

    Args:
      name: `pytorch`, or `lecun_normal`: Flax's default, with zero biases, whose weights have √3
        times the standard deviation.
      fan_in: the number of inputs of an output.
    """
    if name == "lecun_normal":
        return nn.initializers.lecun_normal(), nn.initializers.zeros
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
