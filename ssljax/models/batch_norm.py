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
from ssljax.models.normalize_batch import normalize

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
        scale, bias = jnp.ones(channels), jnp.zeros(channels)
        if self.use_scale:
            scale = self.param("scale", self.scale_init, channels, jnp.float32)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        if not self.batch_statistics:
            mean, var = running_mean.value, running_var.value
            return self._apply(x, mean, var, scale, bias)
        if _groups.get() is None:
            y, mean, var = normalize(x, scale, bias, self.epsilon)
            y, means, variances = y.astype(self.dtype), mean[None], var[None]
            size: Any = x.size // x.shape[-1] * collectives.device_count()
        else:
            means, variances, size = _statistics(x.astype(jnp.float32))
            y = self._apply(x, _of_examples(x, means), _of_examples(x, variances), scale, bias)
        if not self.is_initializing() and self.is_mutable_collection(COLLECTION):
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * means.mean(axis=0)
            unbiased = (variances * (size / jnp.maximum(size - 1, 1))).mean(axis=0)
            running_var.value = keep * running_var.value + (1 - keep) * unbiased
        return y

    def _apply(
        self, x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> jax.Array:
        y = (x.astype(jnp.float32) - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
        return y.astype(self.dtype)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """float32[G, C] means and biased variances by group, and float32[G, 1] values of a channel."""
    numbers, count = _grouping()
    rows = x.reshape(len(numbers), -1, x.shape[-1])
    moments = collectives.gather(jnp.stack([rows.mean(1), jnp.square(rows).mean(1)], axis=1))
    member = jax.nn.one_hot(collectives.gather(numbers), count)
    shares = member / member.sum(axis=0)
    mean, square = jnp.einsum("ng,nmc->mgc", shares, moments, precision="highest")
    sizes = member.sum(axis=0)[:, None] * rows.shape[1]
    return mean, jnp.maximum(square - jnp.square(mean), 0), sizes


def _of_examples(x: jax.Array, values: jax.Array) -> jax.Array:
    """The values of each example's group, in a shape that broadcasts with x."""
    numbers, _ = _grouping()
    return values[numbers].reshape(len(numbers), *[1] * (x.ndim - 2), x.shape[-1])


def _grouping() -> tuple[jax.Array, int]:
    groups = _groups.get()
    assert groups is not None
    return groups
