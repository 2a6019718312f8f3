"""Convolutions with Winograd's minimal filtering, which saves arithmetic on a CPU.

The output is computed in tiles of 4×4. Tiles of the input, the kernel, and tiles of the output are
each transformed with a fixed matrix. Between the transforms, every position of a tile is a separate
matrix product over the channels. For a tile, a 3×3 kernel needs 36 products instead of 144, and a
5×5 kernel 64 instead of 400. XLA's CPU backend has no such algorithm. On GPU, libraries
choose their own, and a TPU's matrix units do not need it.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, with the
matrices of Toom and Cook for the points below.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

TILE = 4  # of the output; with tiles of 5, errors are 4 (3×3 kernels) and 20 times (5×5) as large
# Where polynomials are evaluated, in addition to infinity. Powers of 2 near 1 keep rounding errors
# small.
_POINTS = tuple(Fraction(point) for point in ("0", "1", "-1", "1/2", "-2", "-1/2", "2"))
_POINTS_OF_KERNEL = {3: _POINTS[:5], 5: _POINTS}


def saves(images: Sequence[int], kernel: Sequence[int], padding: Sequence[tuple[int, int]]) -> bool:
    """Whether it needs less than half of the multiplications, including those of the transforms.

    Less than half, because XLA's convolution moves less data.
    """
    rows, columns, channels, outputs = kernel
    if rows != columns or rows not in _POINTS_OF_KERNEL:
        return False
    height, width = _output_size(images, kernel, padding)
    direct = height * width * rows**2 * channels * outputs
    positions = (TILE + rows - 1) ** 2
    tiles = -(-height // TILE) * -(-width // TILE)
    transforms = positions * channels + TILE**2 * outputs
    return tiles * positions * (channels * outputs + transforms) < direct / 2


def winograd(images: jax.Array, kernel: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
    """Correlates float32[B, H, W, C] images with a float32[R, R, C, O] kernel, R being 3 or 5."""
    batch, _, _, channels = images.shape
    size, outputs = kernel.shape[0], kernel.shape[3]
    height, width = _output_size(images.shape, kernel.shape, padding)
    rows, columns = -(-height // TILE), -(-width // TILE)
    to_output, of_kernel, of_input = _transforms(size)
    side = TILE + size - 1
    tiles = _tiles(images, padding, side, rows, columns)
    # Each transform is one matrix product for both axes. One axis after the other needs fewer
    # multiplications but takes longer.
    tiles = jnp.dot(of_input, tiles.reshape(side**2, -1)).reshape(side**2, -1, channels)
    taps = jnp.dot(of_kernel, kernel.reshape(size**2, -1)).reshape(side**2, channels, outputs)
    products = jnp.einsum("ptc,pco->pto", tiles, taps)
    out = jnp.dot(to_output, products.reshape(side**2, -1))
    out = out.reshape(TILE, TILE, batch, rows, columns, outputs).transpose(2, 3, 0, 4, 1, 5)
    return out.reshape(batch, rows * TILE, columns * TILE, outputs)[:, :height, :width]


def _output_size(
    images: Sequence[int], kernel: Sequence[int], padding: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    height, width = (
        length + sum(ends) - kernel[0] + 1
        for length, ends in zip(images[1:3], padding, strict=True)
    )
    return height, width


def _tiles(
    images: jax.Array, padding: Sequence[tuple[int, int]], side: int, rows: int, columns: int
) -> jax.Array:
    """[side, side, B, rows, columns, C]: overlapping squares, TILE pixels apart."""
    overlapping = -(-side // TILE)  # the blocks of TILE pixels that a square extends over
    batch, height, width, channels = images.shape
    tall, wide = rows + overlapping - 1, columns + overlapping - 1
    (top, _), (left, _) = padding
    images = jax.lax.pad(
        images,
        np.float32(0),
        (
            (0, 0, 0),
            (top, tall * TILE - height - top, 0),  # negative padding cuts off
            (left, wide * TILE - width - left, 0),
            (0, 0, 0),
        ),
    )
    blocks = images.reshape(batch, tall, TILE, wide, TILE, channels).transpose(2, 4, 0, 1, 3, 5)
    starts = range(0, side, TILE)
    blocks = jnp.concatenate(
        [blocks[: side - start, :, :, start // TILE :][:, :, :, :rows] for start in starts], axis=0
    )
    return jnp.concatenate(
        [blocks[:, : side - start, :, :, start // TILE :][..., :columns, :] for start in starts],
        axis=1,
    )


@functools.cache
def _transforms(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For both axes: float32[TILE², P], float32[P, size²], float32[P, P].

    P is (TILE + size - 1)².
    """
    points = _POINTS_OF_KERNEL[size]
    side = len(points) + 1
    to_output, of_kernel = np.zeros((TILE, side)), np.zeros((side, size))
    of_input = np.zeros((side, side))
    for index, point in enumerate(points):
        others = [other for other in points if other != point]
        scale = math.prod(point - other for other in others)
        to_output[:, index] = [point**power for power in range(TILE)]
        of_kernel[index] = [point**power / scale for power in range(size)]
        of_input[index, :-1] = _coefficients(others)
    to_output[-1, -1] = of_kernel[-1, -1] = 1  # infinity
    of_input[-1] = _coefficients(points)
    both = [
        np.kron(matrix, matrix).astype(np.float32) for matrix in (to_output, of_kernel, of_input)
    ]
    return both[0], both[1], both[2]


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Of the polynomial with these roots; the coefficient of the highest power is last."""
    polynomial = [Fraction(1)]
    for root in roots:
        polynomial = [
            lower - root * same
            for lower, same in zip(
                [Fraction(0), *polynomial], [*polynomial, Fraction(0)], strict=True
            )
        ]
    return polynomial
