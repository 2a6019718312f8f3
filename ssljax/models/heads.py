"""Heads: what a method puts on top of the backbone."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models.backbone import Part
from ssljax.models.initializers import initializers


class Linear(Part):
    """One dense layer.

    Attributes:
      features: the number of outputs.
    """

    features: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, D] to float32[B, features]."""
        kernel_init, bias_init = initializers(self.initializer, x.shape[-1])
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        x, kernel, bias = (value.astype(self.dtype) for value in (x, kernel, bias))
        return (jnp.dot(x, kernel) + bias).astype(jnp.float32)
