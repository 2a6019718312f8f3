"""Colour operations on planar images, float32[3, H, W] in [0, 1]; vmap them over a batch.

Each is torchvision's operation of the same name on float images. Results are clipped to [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

LUMA = (0.2989, 0.587, 0.114)  # the weights of red, green and blue in grey, as torchvision has them
OPERATIONS = ("brightness", "contrast", "saturation", "hue")


def luma(image: jax.Array) -> jax.Array:
    """The grey value of each pixel: float32[3, H, W] to float32[H, W]."""
    return LUMA[0] * image[0] + LUMA[1] * image[1] + LUMA[2] * image[2]


def grey(image: jax.Array) -> jax.Array:
    """The image in grey, with three equal channels."""
    return jnp.broadcast_to(luma(image), image.shape)


def brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Multiplies the image by a factor ≥ 0."""
    return _blend(image, 0, factor)


def contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Moves all values away from the mean grey value (factor > 1) or towards it."""
    return _blend(image, jnp.mean(luma(image)), factor)


def saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Moves each pixel away from its grey value (factor > 1) or towards it."""
    return _blend(image, luma(image), factor)


def hue(image: jax.Array, shift: jax.Array | float) -> jax.Array:
    """Turns the hue of the HSV colour space, with value and saturation kept.

    Args:
      image: float32[3, H, W].
      shift: in turns of the colour circle.
    """
    red, green, blue = image[0], image[1], image[2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    inverse = 1 / jnp.where(chroma == 0, 1, chroma)
    # In sixths of a turn from red; a pixel without chroma has no hue, and any value will do.
    sixths = jnp.where(
        value == red,
        (green - blue) * inverse,
        jnp.where(value == green, 2 + (blue - red) * inverse, 4 + (red - green) * inverse),
    )
    turned = sixths + 6 * shift

    def channel(offset: int) -> jax.Array:
        # How far this channel lies below the value, as a share of the chroma: 0 within a sixth of
        # its own hue, 1 from a third on, and linear between them.
        away = (turned + offset) * (1 / 6)
        away = jnp.abs(away - jnp.round(away)) * 6
        return value - chroma * jnp.clip(away - 1, 0, 1)

    return jnp.stack([channel(0), channel(-2), channel(-4)])


def solarize(image: jax.Array, threshold: float = 0.5) -> jax.Array:
    """Inverts the values from a threshold on."""
    return jnp.where(image >= threshold, 1 - image, image)


def jitter(
    image: jax.Array, operations: Sequence[str], order: jax.Array, amounts: jax.Array
) -> jax.Array:
    """Applies any of brightness, contrast, saturation and hue, in any order.

    A CPU computes one operation at each place. Under vmap, a `switch` would run all of them.
    Brightness, contrast and saturation are therefore one formula with different constants, so that
    only it and the hue run at each place.

    Args:
      image: float32[3, H, W].
      operations: K different ones of `OPERATIONS`.
      order: int32[K], a permutation: the indices of the operations, the first one first.
      amounts: float32[K], the factor or the shift of each operation.
    """
    codes = jnp.asarray([OPERATIONS.index(name) for name in operations])[order]
    amounts = amounts[order]

    def apply(place: jax.Array, image: jax.Array) -> jax.Array:
        code, amount = codes[place], amounts[place]
        if "hue" not in operations:
            return _blend_as(code, image, amount)
        is_hue = code == OPERATIONS.index("hue")
        return jax.lax.cond(
            is_hue, lambda: hue(image, amount), lambda: _blend_as(code, image, amount)
        )

    # A loop compiles one copy, and XLA does not compute an operation anew for each use of it.
    return jax.lax.fori_loop(0, len(operations), apply, image)


def _blend_as(code: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
    """Brightness, contrast or saturation, as a code says (the index in `OPERATIONS`)."""
    pixels = luma(image)
    other = jnp.where(code == 1, jnp.mean(pixels), pixels)
    return _blend(image, jnp.where(code == 0, 0, other), factor)


def _blend(image: jax.Array, other: jax.Array | float, factor: jax.Array | float) -> jax.Array:
    return jnp.clip(factor * image + (1 - factor) * other, 0, 1)
