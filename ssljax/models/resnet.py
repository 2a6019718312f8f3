"""ResNets as torchvision has them, in Flax linen.

Source: He, Zhang, Ren and Sun (2016), "Deep Residual Learning for Image Recognition". As in
torchvision, the second convolution of a bottleneck has the stride ("ResNet v1.5").
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import fast_convolution
from ssljax.models.backbone import Backbone, block_output
from ssljax.models.batch_norm import BatchNorm
from ssljax.models.pooling import max_pool
from ssljax.settings.options import option

STEMS = {"imagenet": 7, "strided": 5, "small": 3}  # sides of their kernels
_EXPANSION = 4  # a bottleneck's outputs, in channels of its inner convolutions


class ResNet(Backbone):
    """A stem, four layers of residual blocks, and the mean over the last map.

    The stem for small images is that of SimCLR's experiments on CIFAR (Chen et al., 2020, appendix
    B.9): 3×3 with stride 1, without pooling. The one with a stride has a quarter of its pixels.

    Attributes:
      blocks: of each layer.
      bottleneck: whether blocks are 1×1, 3×3 and 1×1 convolutions, or two of 3×3.
    """

    width: float = option(1.0, "multiplies the channels of every layer", above=0, at_most=64)
    stem: str = option(
        "imagenet",
        "`imagenet`: 7×7 with stride 2, then pooling; for images up to 64 px `small`: 3×3, or "
        "`strided`: 5×5 with stride 2, which leaves a quarter of the pixels",
        choices=STEMS,
    )
    zero_init_residual: bool = option(
        False, "the last scale of each block is 0 at first, so that blocks change nothing"
    )

    blocks: ClassVar[tuple[int, int, int, int]]
    bottleneck: ClassVar[bool] = False
    smallest_image: ClassVar[int] = 8
    without_ynnpack: ClassVar[bool] = True

    @classmethod
    def layer_order(cls, options: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        """The stem, then the four layers."""
        return ("conv1", "bn1"), *((f"layer{number}_*",) for number in range(1, 5))

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """float32[B, H, W, 3] to [B, 512 · width], or 2048 · width with bottlenecks."""
        return self.layers(images, keys)["pool"]

    @nn.compact
    def layers(self, images: jax.Array, keys: jax.Array | None = None) -> dict[str, jax.Array]:
        """`stem`, `layer1` to `layer4`: [B, H', W', C]; `pool`: [B, C]."""
        norm = functools.partial(BatchNorm, self.batch_statistics, dtype=self.dtype)
        layers = {}
        x = images.astype(self.dtype)
        stride = 1 if self.stem == "small" else 2
        x = convolution(x, self._scaled(64), STEMS[self.stem], stride, name="conv1")
        x = nn.relu(norm(name="bn1")(x))
        if self.stem == "imagenet":
            x = max_pool(x, padding=1)
        x = layers["stem"] = block_output(x)
        for layer, count in enumerate(self.blocks, start=1):
            for block in range(count):
                x = Block(
                    channels=self._scaled(64 * 2 ** (layer - 1)),
                    stride=2 if layer > 1 and block == 0 else 1,
                    bottleneck=self.bottleneck,
                    zero_init=self.zero_init_residual,
                    norm=norm,
                    name=f"layer{layer}_{block}",
                )(x)
                x = block_output(x)
            layers[f"layer{layer}"] = x
        layers["pool"] = x.mean(axis=(1, 2), dtype=jnp.float32).astype(self.dtype)
        return layers

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.width))


class ResNet10(ResNet):
    """One block in each layer; torchvision has no name for it."""

    blocks = (1, 1, 1, 1)


class ResNet18(ResNet):
    """Two blocks in each layer."""

    blocks = (2, 2, 2, 2)


class ResNet34(ResNet):
    """3, 4, 6 and 3 blocks."""

    blocks = (3, 4, 6, 3)


class ResNet50(ResNet):
    """3, 4, 6 and 3 bottlenecks."""

    blocks = (3, 4, 6, 3)
    bottleneck = True


class Block(nn.Module):
    """A residual block: ReLU of its input, or a projection of it, plus two or three convolutions.

    Attributes:
      channels: of the inner convolutions.
      stride: of the first 3×3 convolution, and of the projection.
      bottleneck: see `ResNet`.
      zero_init: the last scale is 0 at first.
      norm: makes a batch normalisation.
    """

    channels: int
    stride: int
    bottleneck: bool
    zero_init: bool
    norm: Callable[..., BatchNorm]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, C']."""
        scale_init = nn.initializers.zeros if self.zero_init else nn.initializers.ones
        out = self.channels * (_EXPANSION if self.bottleneck else 1)
        if self.bottleneck:
            y = convolution(x, self.channels, 1, name="conv1")
            y = nn.relu(self.norm(name="bn1")(y))
            y = convolution(y, self.channels, 3, self.stride, name="conv2")
            y = nn.relu(self.norm(name="bn2")(y))
            y = convolution(y, out, 1, name="conv3")
            y = self.norm(scale_init=scale_init, name="bn3")(y)
        else:
            y = convolution(x, self.channels, 3, self.stride, name="conv1")
            y = nn.relu(self.norm(name="bn1")(y))
            y = convolution(y, out, 3, name="conv2")
            y = self.norm(scale_init=scale_init, name="bn2")(y)
        if self.stride != 1 or x.shape[-1] != out:
            x = convolution(x, out, 1, self.stride, name="downsample_conv")
            x = self.norm(name="downsample_bn")(x)
        return nn.relu(x + y)


def convolution(
    x: jax.Array, features: int, kernel: int, stride: int = 1, *, name: str
) -> jax.Array:
    """A convolution without bias, in x's dtype, with torchvision's initial weights.

    They are normal, with a variance of 2 over the fan-out (He et al., 2015).
    """
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,  # explicit: SAME pads strided convolutions differently from PyTorch
        use_bias=False,
        dtype=x.dtype,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=fast_convolution.convolution,
        name=name,
    )(x)
