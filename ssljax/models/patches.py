"""Images as rows of patches, and their projection to tokens."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models.initializers import initializers


def patchify(images: jax.Array, side: int) -> jax.Array:
    """Cuts images into square patches, row by row; pixels that are left over are cut off.

    The numbers of a patch are in the order row, column, channel, as in the official code of He et
    al. (2022), "Masked Autoencoders Are Scalable Vision Learners".

    Args:
      images: [B, H, W, C].
      side: of a patch, in pixels.

    Returns:
      [B, N, side² · C], N = ⌊H / side⌋ · ⌊W / side⌋.
    """
    batch, height, width, channels = images.shape
    rows, columns = height // side, width // side
    images = images[:, : rows * side, : columns * side]
    patches = images.reshape(batch, rows, side, columns, side, channels)
    patches = patches.transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(batch, rows * columns, side**2 * channels)


class PatchEmbed(nn.Module):
    """The linear projection of patches.

    Its kernel is that of a convolution, [side, side, 3, channels]. New ones are drawn as those of a
    dense layer, as in the official code of MAE and MoCo v3.

    Attributes:
      side: of a patch, in pixels.
      channels: of a token.
      initializer: see `ssljax.models.initializers`.
      dtype: computed in.
    """

    side: int
    channels: int
    initializer: str
    dtype: Any

    @nn.compact
    def __call__(self, patches: jax.Array) -> jax.Array:
        """[B, N, side² · 3] to [B, N, channels]."""
        inputs = patches.shape[-1]
        # timm and DINO leave PyTorch's weights here.
        name = "pytorch" if self.initializer == "normal" else self.initializer
        kernel_init, bias_init = initializers(name, inputs)

        def convolution(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            dense = kernel_init(key, (inputs, self.channels), jnp.float32)
            return jnp.asarray(dense).reshape(shape)

        kernel = self.param("kernel", convolution, (self.side, self.side, 3, self.channels))
        bias = self.param("bias", bias_init, (self.channels,), jnp.float32)
        kernel = kernel.reshape(inputs, self.channels)
        product = jnp.dot(patches.astype(self.dtype), kernel.astype(self.dtype))
        # The gradient of what is broadcast is summed in float32, see `float32_bias`.
        return (product.astype(jnp.float32) + bias).astype(self.dtype)
