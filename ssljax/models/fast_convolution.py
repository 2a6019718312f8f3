"""Convolutions in the fastest way on a CPU.

XLA calls Eigen for them. Its convolutions of maps of 2×2 pixels take many times as long as a matrix
product over patches (docs/performance.md). For larger maps, copying the patches would take longer
than it saves, and Winograd's filtering saves arithmetic instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.models import winograd

_FEW_PIXELS = 4  # of the output


def convolution(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, as `flax.linen.Conv` calls it, in the fastest way.

    XLA's own convolution is used on devices other than a CPU, for types other than float32, with
    dilation or groups, and for all shapes for which nothing faster is known.

    Args:
      images: float[B, H, W, C].
      kernel: float[R, S, C, O].
      strides: of both axes.
      padding: before and after, of both axes.
      **options: the other ones of `conv_general_dilated`.

    Returns:
      float[B, H', W', O]. The error is up to about 1e-5 of the largest output; that of XLA's is
      1e-6.
    """

    def direct(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(images, kernel, strides, padding, **options)

    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    if (
        set(dilations) - {1}
        or options.get("feature_group_count", 1) != 1
        or images.dtype != jnp.float32
    ):
        return direct(images, kernel)
    faster: Callable[..., jax.Array] | None = None
    height, width = jax.eval_shape(direct, images, kernel).shape[1:3]
    if height * width <= _FEW_PIXELS:
        faster = functools.partial(product_of_patches, strides=strides, padding=padding)
    elif set(strides) == {1} and winograd.saves(images.shape, kernel.shape, padding):
        faster = functools.partial(winograd.winograd, padding=padding)
    if faster is None:
        return direct(images, kernel)
    # The platform that is compiled for, which may differ from that of this process.
    return jax.lax.platform_dependent(images, kernel, cpu=faster, default=direct)


def product_of_patches(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """[B, H, W, C] images and a [R, S, C, O] kernel; each patch is a row of a matrix."""
    rows, columns, channels, outputs = kernel.shape
    images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    down, right = strides
    height = (images.shape[1] - rows) // down + 1
    width = (images.shape[2] - columns) // right + 1
    taps = [
        images[:, row : row + (height - 1) * down + 1 : down][
            :, :, column : column + (width - 1) * right + 1 : right
        ]
        for row in range(rows)
        for column in range(columns)
    ]
    patches = jnp.concatenate(taps, axis=-1).reshape(-1, rows * columns * channels)
    products = jnp.dot(patches, kernel.reshape(-1, outputs))
    return products.reshape(-1, height, width, outputs)
