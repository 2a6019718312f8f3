"""AlexNet as torchvision has it ("One weird trick", Krizhevsky 2014), in Flax linen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError, nearest
from ssljax.models import winograd

POOLED = 6  # the side of the feature map that fc6 sees


class AlexNet(nn.Module):
    """Five convolutions and three fully connected layers.

    With width 1 and 1000 outputs it has torchvision's 61,100,840 parameters. Convolution kernels
    are [height, width, in, out]; fc6 reads its [6, 6, channels] map in that order, where PyTorch
    has the channels first.

    Attributes:
      num_outputs: width of fc8.
      width: multiplies the channels of every other layer.
      dropout: rate before fc6 and fc7.
      initializer: of fresh weights: `pytorch`, or Flax's own, `lecun_normal` with zero biases,
        whose weights vary √3 times as much.
      dtype: what is computed in; parameters are float32.
    """

    num_outputs: int
    width: float = 1.0
    dropout: float = 0.5
    initializer: str = "pytorch"
    dtype: jnp.dtype = jnp.float32

    def __call__(self, images: jax.Array, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Runs the network.

        Args:
          images: float32[B, H, W, 3], normalised; at least 63 px a side.
          dropout_keys: one random key per example; None runs without dropout.

        Returns:
          float32[B, num_outputs].
        """
        return self.activations(images, dropout_keys)["fc8"]

    @nn.compact
    def activations(
        self, images: jax.Array, dropout_keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """What each layer puts out, by its name: after ReLU, and after pooling where it follows."""
        x = images.astype(self.dtype)
        layers = {}
        x = layers["conv1"] = self._convolution(x, "conv1", 64, 11, stride=4, padding=2, pool=True)
        x = layers["conv2"] = self._convolution(x, "conv2", 192, 5, padding=2, pool=True)
        x = layers["conv3"] = self._convolution(x, "conv3", 384, 3, padding=1)
        x = layers["conv4"] = self._convolution(x, "conv4", 256, 3, padding=1)
        x = layers["conv5"] = self._convolution(x, "conv5", 256, 3, padding=1, pool=True)
        x = self._drop(adaptive_average_pool(x, POOLED).reshape(x.shape[0], -1), dropout_keys, 0)
        x = layers["fc6"] = nn.relu(self._dense(x, "fc6", self._scaled(4096)))
        x = self._drop(x, dropout_keys, 1)
        x = layers["fc7"] = nn.relu(self._dense(x, "fc7", self._scaled(4096)))
        layers["fc8"] = self._dense(x, "fc8", self.num_outputs).astype(jnp.float32)
        return layers

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.width))

    def _convolution(
        self,
        x: jax.Array,
        name: str,
        channels: int,
        kernel: int,
        *,
        padding: int,
        stride: int = 1,
        pool: bool = False,
    ) -> jax.Array:
        kernel_init, bias_init = self._initializers(kernel**2 * x.shape[-1])
        x = nn.Conv(
            self._scaled(channels),
            (kernel, kernel),
            strides=stride,
            padding=padding,  # explicit: SAME pads strided convolutions differently from PyTorch
            dtype=self.dtype,
            kernel_init=kernel_init,
            bias_init=bias_init,
            conv_general_dilated=winograd.convolution,
            name=name,
        )(x)
        x = nn.relu(x)
        return max_pool(x) if pool else x

    def _dense(self, x: jax.Array, name: str, features: int) -> jax.Array:
        kernel_init, bias_init = self._initializers(x.shape[-1])
        return nn.Dense(
            features, dtype=self.dtype, kernel_init=kernel_init, bias_init=bias_init, name=name
        )(x)

    def _initializers(
        self, fan_in: int
    ) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
        """Of kernels and of biases."""
        if self.initializer == "pytorch":
            return pytorch_uniform(fan_in), pytorch_uniform(fan_in)
        if self.initializer == "lecun_normal":
            return nn.initializers.lecun_normal(), nn.initializers.zeros
        known = ["pytorch", "lecun_normal"]
        raise InputError(
            f"model.initializer: unknown {self.initializer!r}; {nearest(self.initializer, known)}"
        )

    def _drop(self, x: jax.Array, keys: jax.Array | None, layer: int) -> jax.Array:
        if keys is None or not self.dropout:
            return x
        # One key per example, so that devices and their number draw the same.
        keep = jax.vmap(
            lambda key: jax.random.bernoulli(
                jax.random.fold_in(key, layer), 1 - self.dropout, x.shape[1:]
            )
        )(keys)
        return jnp.where(keep, x / (1 - self.dropout), 0).astype(x.dtype)


def pytorch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for weights and biases of both layer types: U(-1/√fan_in, 1/√fan_in)."""
    bound = 1 / math.sqrt(fan_in)

    def init(
        key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def max_pool(x: jax.Array) -> jax.Array:
    """3×3 maximum with stride 2 over [B, H, W, C], no padding.

    The maximum of nine strided slices: XLA's own pooling has a gradient (select-and-scatter) that
    is several times slower on CPU. Where values tie, the gradient is shared among them.
    """
    height, width = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    for axis, size in ((1, height), (2, width)):
        slices = [
            jax.lax.slice_in_dim(x, start, start + 2 * size - 1, stride=2, axis=axis)
            for start in range(3)
        ]
        x = jnp.maximum(jnp.maximum(slices[0], slices[1]), slices[2])
    return x


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages [B, H, W, C] over size×size bins, as PyTorch's AdaptiveAvgPool2d does.

    Bins may overlap, and repeat pixels where H or W is less than size.
    """
    if x.shape[1:3] == (size, size):
        return x
    rows = jnp.asarray(_bins(x.shape[1], size), x.dtype)
    columns = jnp.asarray(_bins(x.shape[2], size), x.dtype)
    return jnp.einsum("rh,bhwc,sw->brsc", rows, x, columns)


def _bins(length: int, size: int) -> np.ndarray:
    """float64[size, length]: each row averages one bin."""
    matrix = np.zeros((size, length))
    for index in range(size):
        start, stop = index * length // size, -(-(index + 1) * length // size)
        matrix[index, start:stop] = 1 / (stop - start)
    return matrix
