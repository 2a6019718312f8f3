"""AlexNet as torchvision has it ("One weird trick", Krizhevsky 2014), in Flax linen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import fast_convolution, float32_bias
from ssljax.models.backbone import Backbone, block_output
from ssljax.models.batch_norm import BatchNorm
from ssljax.models.initializers import INITIALIZERS, initializers
from ssljax.models.pooling import adaptive_average_pool, max_pool
from ssljax.settings.options import option

POOLED = 6  # the side of the feature map that fc6 reads


class AlexNet(Backbone):
    """Five convolutions and two fully connected layers; torchvision's third one is the head.

    With width 1 and a head of 1000 outputs it has torchvision's 61,100,840 parameters. Convolution
    kernels are [height, width, in, out]. fc6 reads its [6, 6, channels] map in that order, where
    PyTorch has the channels first.

    With `batch_norm` each convolution is followed by batch normalisation. The convolutions keep
    their biases, as in torchvision's VGG networks, so that the other parameters are the same.
    """

    width: float = option(1.0, "multiplies the channels of every layer", above=0, at_most=64)
    dropout: float = option(0.5, "rate before fc6 and fc7", at_least=0, below=1)
    batch_norm: bool = option(False, "batch normalisation after each convolution, before ReLU")
    initializer: str = option(
        "pytorch",
        "of new weights; lecun_normal is Flax's, with √3 times the standard deviation",
        choices=INITIALIZERS,
    )

    smallest_image: ClassVar[int] = 64

    @classmethod
    def layer_order(cls, options: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        """Five convolutions with their normalisations, fc6 and fc7."""
        convolutions = ((f"conv{number}", f"bn{number}") for number in range(1, 6))
        return *convolutions, ("fc6",), ("fc7",)

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """float32[B, H, W, 3] to fc7's output, [B, 4096 · width]; see `Backbone`."""
        return self.layers(images, keys)["fc7"]

    @nn.compact
    def layers(self, images: jax.Array, keys: jax.Array | None = None) -> dict[str, jax.Array]:
        """Each layer's output by name: after ReLU, and after pooling if it follows."""
        x = images.astype(self.dtype)
        layers = {}
        x = layers["conv1"] = self._convolution(x, "conv1", 64, 11, stride=4, padding=2, pool=True)
        x = layers["conv2"] = self._convolution(x, "conv2", 192, 5, padding=2, pool=True)
        x = layers["conv3"] = self._convolution(x, "conv3", 384, 3, padding=1)
        x = layers["conv4"] = self._convolution(x, "conv4", 256, 3, padding=1)
        x = layers["conv5"] = self._convolution(x, "conv5", 256, 3, padding=1, pool=True)
        x = self._drop(adaptive_average_pool(x, POOLED).reshape(x.shape[0], -1), keys, 0)
        x = layers["fc6"] = nn.relu(self._dense(x, "fc6", self._scaled(4096)))
        x = self._drop(x, keys, 1)
        layers["fc7"] = nn.relu(self._dense(x, "fc7", self._scaled(4096)))
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
        kernel_init, bias_init = initializers(self.initializer, kernel**2 * x.shape[-1])
        x = nn.Conv(
            self._scaled(channels),
            (kernel, kernel),
            strides=stride,
            padding=padding,  # explicit: SAME pads strided convolutions differently from PyTorch
            dtype=self.dtype,
            kernel_init=kernel_init,
            bias_init=bias_init,
            conv_general_dilated=fast_convolution.convolution,
            promote_dtype=float32_bias.promote_dtype,
            name=name,
        )(x)
        x = x.astype(self.dtype)
        if self.batch_norm:
            norm = name.replace("conv", "bn")
            x = BatchNorm(self.batch_statistics, dtype=self.dtype, name=norm)(x)
        x = nn.relu(x)
        return block_output(max_pool(x) if pool else x)

    def _dense(self, x: jax.Array, name: str, features: int) -> jax.Array:
        kernel_init, bias_init = initializers(self.initializer, x.shape[-1])
        layer = nn.Dense(
            features, dtype=self.dtype, kernel_init=kernel_init, bias_init=bias_init,
            promote_dtype=float32_bias.promote_dtype, name=name,
        )  # fmt: skip
        return layer(x).astype(self.dtype)

    def _drop(self, x: jax.Array, keys: jax.Array | None, layer: int) -> jax.Array:
        if keys is None or not self.dropout:
            return x
        # One key per image, so that the draw does not depend on the devices.
        keep = jax.vmap(
            lambda key: jax.random.bernoulli(
                jax.random.fold_in(key, layer), 1 - self.dropout, x.shape[1:]
            )
        )(keys)
        return jnp.where(keep, x / (1 - self.dropout), 0).astype(x.dtype)
