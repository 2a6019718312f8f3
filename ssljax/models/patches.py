"""Images as rows of patches."""

from __future__ import annotations

import jax


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
