"""Pillow's bilinear resize of a square, to the bit, in about half of its time.

Pillow (`Resample.c`) resizes every row, and then every column of the result. In both passes a value
is a sum of 8-bit values with integer weights of 22 fractional bits, and it is rounded to 8 bits.
The same sums are products with a sparse matrix of integers, which SciPy computes with vector
instructions.

Only squares are resized here: of other images, Pillow 13 sometimes resizes the columns first.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from scipy import sparse

_BITS = 22  # of a weight's fraction; with 8 bits of a value, a sum fits into 32

# An array of 16 MiB that is freed at once. From then on, glibc keeps that much freed memory for the
# next image. Otherwise it may return the memory to the system after every image, and new pages take
# as long as a third of the resize (man mallopt: M_MMAP_THRESHOLD is dynamic).
np.empty(2**24, np.uint8)


def resize(image: np.ndarray, out: np.ndarray) -> None:
    """Resizes a square; antialiased when it shrinks.

    Args:
      image: uint8[side, side, 3].
      out: uint8[size, size, 3], the result.
    """
    weights = _weights(len(image), len(out))
    turned = _weighted(weights, cv2.transpose(image)).astype(np.uint8)
    out[:] = _weighted(weights, cv2.transpose(turned))


def _weighted(weights: sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Weighted sums over the first axis of uint8[side, N, 3], rounded: int32[size, N, 3]."""
    sums = weights @ image.reshape(len(image), -1).astype(np.int32)
    sums += 1 << (_BITS - 1)
    sums >>= _BITS
    return sums.reshape(-1, *image.shape[1:])


@functools.lru_cache(maxsize=1024)
def _weights(side: int, size: int) -> sparse.csr_array:
    """int32[size, side]: the weights of a triangle as wide as two pixels of the coarser grid."""
    scale = side / size
    radius = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - radius + 0.5).astype(int), 0)
    end = np.minimum((centre + radius + 0.5).astype(int), side)
    column = first[:, None] + np.arange((end - first).max())
    weight = 1 - np.abs((column - centre[:, None] + 0.5) * (1 / radius))
    weight = np.where(column < end[:, None], np.maximum(weight, 0), 0)
    weight /= np.cumsum(weight, axis=1)[:, -1:]  # added one by one, as Pillow does
    rounded = (weight * (1 << _BITS) + 0.5).astype(np.int32)
    row, place = np.nonzero(rounded)
    shape = (size, side)
    return sparse.csr_array((rounded[row, place], (row, column[row, place])), shape=shape)
