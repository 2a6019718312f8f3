"""Batch normalisation over the whole batch of all devices, as PyTorch computes it."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import collectives

COLLECTION = "batch_stats"  # of the running statistics, as in Flax
_groups: contextvars.ContextVar[tuple[jax.Array, int] | None] = contextvars.ContextVar(
    "groups", default=None
)


@contextlib.contextmanager
def grouped(numbers: jax.Array, count: int) -> Iterator[None]:
    """Within it, each group of examples is normalised with its own statistics.

    The running statistics then follow the mean of those of the groups.

    Args:
      numbers: int32[b], the group of each of this device's examples. A group may have examples on
        several devices.
      count: of the groups; none is empty.
    """
    token = _groups.set((numbers, count))
    try:
        yield
    finally:
        _groups.reset(token)


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
            means, variances, size = _statistics(x)
            if not self.is_initializing() and self.is_mutable_collection(COLLECTION):
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * means.mean(axis=0)
                unbiased = (variances * (size / jnp.maximum(size - 1, 1))).mean(axis=0)
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
            mean, var = _of_examples(x, means), _of_examples(x, variances)
        else:
            mean, var = running_mean.value, running_var.value
        factor = jax.lax.rsqrt(var + self.epsilon)
        if self.use_scale:
            factor *= self.param("scale", self.scale_init, channels, jnp.float32)
        y = (x - mean) * factor
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        return y.astype(self.dtype)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """float32[G, C] means and biased variances by group, and float32[G, 1] values of a channel."""
    groups = _groups.get()
    count = x.size // x.shape[-1] * collectives.device_count()
    if groups is None:
        axes = tuple(range(x.ndim - 1))
        mean = collectives.mean(x.mean(axes))
        square = collectives.mean(jnp.square(x).mean(axes))
        sizes = jnp.full((1, 1), count, jnp.float32)
        mean, square = mean[None], square[None]
    else:
        rows = x.reshape(len(groups[0]), -1, x.shape[-1])
        moments = collectives.gather(jnp.stack([rows.mean(1), jnp.square(rows).mean(1)], axis=1))
        member = jax.nn.one_hot(collectives.gather(groups[0]), groups[1])
        shares = member / member.sum(axis=0)
        mean, square = jnp.einsum("ng,nmc->mgc", shares, moments, precision="highest")
        sizes = member.sum(axis=0)[:, None] * rows.shape[1]
    return mean, jnp.maximum(square - jnp.square(mean), 0), sizes


def _of_examples(x: jax.Array, values: jax.Array) -> jax.Array:
    """The values of each example's group, in a shape that broadcasts with x."""
    groups = _groups.get()
    if groups is None:
        return values[0]
    return values[groups[0]].reshape(len(groups[0]), *[1] * (x.ndim - 2), x.shape[-1])
