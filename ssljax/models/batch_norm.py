"""Batch normalisation over the whole batch of all devices, as PyTorch computes it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import collectives

COLLECTION = "batch_stats"  # of the running statistics, as in Flax


class BatchNorm(nn.Module):
    """Normalises the last axis over all others, and over the devices.

    Like PyTorch's, and unlike Flax's, it keeps the unbiased running variance: with maps of 1×1 to
    4×4 pixels and small batches the difference exceeds 1e-3 within ten steps. Statistics and
    normalisation are in float32.

    Source: Ioffe and Szegedy (2015), "Batch Normalization".

    Attributes:
      batch_statistics: normalise with the batch's statistics and update the running ones;
        otherwise normalise with the running ones.
      momentum: of the running statistics; PyTorch's momentum is 1 - this.
      epsilon: added to the variance.
      use_scale: has a learned scale.
      use_bias: has a learned bias.
      scale_init: of the scale.
      dtype: of the output; parameters and statistics are float32.
    """

    batch_statistics: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises float[…, C]."""
        channels = x.shape[-1:]
        running_mean = self.variable(COLLECTION, "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable(COLLECTION, "var", jnp.ones, channels, jnp.float32)
        x = x.astype(jnp.float32)
        if self.batch_statistics:
            axes = tuple(range(x.ndim - 1))
            mean = collectives.mean(x.mean(axes))
            var = jnp.maximum(collectives.mean(jnp.square(x).mean(axes)) - jnp.square(mean), 0)
            if not self.is_initializing() and self.is_mutable_collection(COLLECTION):
                count = x.size // x.shape[-1] * collectives.device_count()
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                unbiased = var * (count / max(count - 1, 1))
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        factor = jax.lax.rsqrt(var + self.epsilon)
        if self.use_scale:
            factor *= self.param("scale", self.scale_init, channels, jnp.float32)
        y = (x - mean) * factor
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        return y.astype(self.dtype)
