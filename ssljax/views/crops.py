"""Crops: a part of an image, resized, as two small matrix products.

An image lies on a canvas: the whole image, squashed to a square. Boxes are in the image's own
pixels, so that their aspect ratio means what it means in publications, and resizing undoes the
squash. Images are planar, float32[3, H, W] in [0, 1]; vmap the functions over a batch.

The resampling is Pillow's, and torchvision's with `antialias=True`: the filter is stretched when
the crop shrinks, and pixels outside the box do not count.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

_TRIES = 10  # as torchvision's RandomResizedCrop
NUMBERS = 2 * _TRIES + 2  # that `random_box` takes
_BICUBIC = -0.5  # the free parameter of the filter, as in Pillow


class Box(NamedTuple):
    """A part of an image; float32[] each, in pixels of the image."""

    top: jax.Array
    left: jax.Array
    height: jax.Array
    width: jax.Array


def random_box(
    numbers: jax.Array,
    size: jax.Array,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """The box of a random resized crop, distributed as in torchvision's `RandomResizedCrop`.

    Ten candidates are drawn and the first that lies in the image is taken. If none does, it is the
    largest box at the centre whose aspect ratio is allowed.

    Args:
      numbers: float32[NUMBERS], uniform in [0, 1).
      size: float32[2], the height and width of the image.
      scale: the least and the largest share of the image's area.
      ratio: the least and the largest width / height; its logarithm is uniform.
    """
    height, width = size[0], size[1]
    draws, place = numbers[: 2 * _TRIES].reshape(2, _TRIES), numbers[2 * _TRIES :]
    area = height * width * (scale[0] + draws[0] * (scale[1] - scale[0]))
    lowest, highest = math.log(ratio[0]), math.log(ratio[1])
    aspect = jnp.exp(lowest + draws[1] * (highest - lowest))
    widths, heights = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = jnp.argmax(fits)
    slack = jnp.stack([height - heights[first], width - widths[first]])
    offset = jnp.minimum(jnp.floor(place * (slack + 1)), slack)  # the product may be rounded up
    found = Box(offset[0], offset[1], heights[first], widths[first])
    largest = centre_box(
        size,
        jnp.minimum(height, jnp.round(width / ratio[0])),
        jnp.minimum(width, jnp.round(height * ratio[1])),
    )
    return jax.tree.map(lambda a, b: jnp.where(fits.any(), a, b), found, largest)


def centre_box(size: jax.Array, height: jax.Array, width: jax.Array) -> Box:
    """The box of a height and width at the centre of an image of a size, float32[2]."""
    return Box((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def centre_square(size: jax.Array) -> Box:
    """The largest square at the centre of an image of a size, float32[2]."""
    side = jnp.minimum(size[0], size[1])
    return centre_box(size, side, side)


def padding_crop(image: jax.Array, offset: jax.Array, pad: int) -> jax.Array:
    """Pads an image with black on all sides and cuts out a part of its own size.

    Args:
      image: float32[3, H, W].
      offset: int32[2], the top and left of the part in the padded image, from 0 to 2 × pad.
      pad: in pixels.
    """
    padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    return jax.lax.dynamic_slice(padded, (0, offset[0], offset[1]), image.shape)


def crop(
    image: jax.Array,
    box: Box,
    size: jax.Array,
    side: int,
    bicubic: bool = False,
    flip: jax.Array | bool = False,
) -> jax.Array:
    """Cuts a box out of a canvas and resizes it.

    Args:
      image: float32[3, H, W], a canvas.
      box: in pixels of the image.
      size: float32[2], the height and width of the image, which the canvas shows squashed.
      side: of the result.
      bicubic: instead of bilinear.
      flip: bool[], mirrors the result; it costs nothing here.

    Returns:
      float32[3, side, side] in [0, 1].
    """
    rows, columns = axes(image.shape, box, size, side, bicubic)
    result = jax.lax.platform_dependent(
        image, rows, columns, jnp.asarray(flip), cpu=by_taps, default=by_matrices
    )
    return jnp.clip(result, 0, 1) if bicubic else result


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Axis:
    """How one axis of a canvas is resampled.

    Attributes:
      pixels: of the canvas along the axis.
      size: float32[], of the image along the axis, in pixels.
      start: float32[], of the box, in pixels of the image.
      length: float32[], of the box, in pixels of the image.
      side: of the result, in pixels.
      bicubic: instead of bilinear.
    """

    pixels: int = dataclasses.field(metadata={"static": True})
    size: jax.Array
    start: jax.Array
    length: jax.Array
    side: int = dataclasses.field(metadata={"static": True})
    bicubic: bool = dataclasses.field(metadata={"static": True})

    @property
    def reach(self) -> int:
        """Half the width of the filter, in pixels of the result."""
        return 2 if self.bicubic else 1

    def taps(self) -> tuple[jax.Array, jax.Array]:
        """The pixels that count, int32[side, K], and their weights, float32[side, K]."""
        start, step, centre = self._places()
        # No box is longer than the image, so this many pixels always suffice.
        count = math.ceil(2 * self.reach * max(self.pixels / self.side, 1))
        first = jnp.floor(centre - self.reach * jnp.maximum(step, 1) + 0.5)
        pixel = first[:, None] + jnp.arange(count, dtype=jnp.float32)
        return (
            jnp.clip(pixel, 0, self.pixels - 1).astype(jnp.int32),
            self._weights(pixel, start, step, centre),
        )

    def matrix(self) -> jax.Array:
        """The weights of all pixels, float32[side, pixels]."""
        pixel = jnp.arange(self.pixels, dtype=jnp.float32)
        return self._weights(pixel[None, :], *self._places())

    def _places(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of the box, in pixels of the canvas: its start, a step of the result, and its centres."""
        squash = self.pixels / self.size
        start, step = self.start * squash, self.length * squash / self.side
        return start, step, start + (jnp.arange(self.side, dtype=jnp.float32) + 0.5) * step

    def _weights(
        self, pixel: jax.Array, start: jax.Array, step: jax.Array, centre: jax.Array
    ) -> jax.Array:
        distance = jnp.abs(pixel + 0.5 - centre[:, None]) / jnp.maximum(step, 1)
        weights = _cubic(distance) if self.bicubic else jnp.maximum(1 - distance, 0)
        end = start + step * self.side
        weights = jnp.where((pixel + 1 > start) & (pixel < end), weights, 0)
        return weights / weights.sum(axis=1, keepdims=True)


def axes(
    shape: tuple[int, ...], box: Box, size: jax.Array, side: int, bicubic: bool
) -> tuple[Axis, Axis]:
    """The rows and the columns of a canvas of a shape (3, H, W); the rest as for `crop`."""
    return (
        Axis(shape[1], size[0], box.top, box.height, side, bicubic),
        Axis(shape[2], size[1], box.left, box.width, side, bicubic),
    )


def by_matrices(image: jax.Array, rows: Axis, columns: Axis, flip: jax.Array) -> jax.Array:
    """`crop` as two matrix products, which suit accelerators."""
    matrix = columns.matrix()
    matrix = jnp.where(flip, matrix[::-1], matrix)
    half = jnp.einsum("yh,chw->cyw", rows.matrix(), image, precision="highest")
    return jnp.einsum("cyw,xw->cyx", half, matrix, precision="highest")


def by_taps(image: jax.Array, rows: Axis, columns: Axis, flip: jax.Array) -> jax.Array:
    """`crop` with the entries of the matrices that are not zero, which is faster on a CPU."""
    pixels, weights = rows.taps()
    taps = range(pixels.shape[1])
    image = functools.reduce(jnp.add, (weights[:, k, None] * image[:, pixels[:, k]] for k in taps))
    image = jax.lax.optimization_barrier(image)  # or XLA computes it anew for every pixel
    pixels, weights = (jnp.where(flip, x[::-1], x) for x in columns.taps())
    taps = range(pixels.shape[1])
    return functools.reduce(jnp.add, (weights[:, k] * image[:, :, pixels[:, k]] for k in taps))


def _cubic(x: jax.Array) -> jax.Array:
    """The cubic convolution filter at distances ≥ 0 (Keys 1981, equation 4)."""
    a = _BICUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))
