"""Random rectangles of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def draw_blocks(
    keys: jax.Array, count: int, side: int, scales: Sequence[float], ratios: Sequence[float]
) -> jax.Array:
    """Draws blocks for each record: their sizes first, then places where they fit.

    A block of the area a = ⌊side² · scale⌋ and the aspect ratio r has round(√(a r)) rows and
    round(√(a / r)) columns, at least one and at most `side`.

    Source: Assran et al. (2023), "Self-Supervised Learning from Images with a Joint-Embedding
    Predictive Architecture", section 3, and the official code.

    Args:
      keys: key[B].
      count: M, blocks for each record.
      side: S, of the square grid of patches.
      scales: the least and the largest share of the grid, between which scales are uniform.
      ratios: the least and the largest aspect ratio, height to width; uniform, too.

    Returns:
      bool[B, M, S²], the patches in each block, row by row.
    """
    numbers = jax.vmap(lambda key: jax.random.uniform(key, (4, count)))(keys)
    scale, ratio, row, column = jnp.moveaxis(numbers, 1, 0)
    area = jnp.floor(side**2 * (scales[0] + scale * (scales[1] - scales[0])))
    ratio = ratios[0] + ratio * (ratios[1] - ratios[0])

    def inside(length: jax.Array, number: jax.Array) -> jax.Array:
        """bool[B, M, S]: the rows or the columns of a block."""
        length = jnp.clip(jnp.round(length), 1, side)[..., None]
        first = jnp.floor(number[..., None] * (side - length + 1))
        return (jnp.arange(side) >= first) & (jnp.arange(side) < first + length)

    rows, columns = inside(jnp.sqrt(area * ratio), row), inside(jnp.sqrt(area / ratio), column)
    return (rows[..., :, None] & columns[..., None, :]).reshape(-1, count, side**2)


def largest_block(side: int, scales: Sequence[float], ratios: Sequence[float]) -> int:
    """The most patches that a block of `draw_blocks` can have."""
    area = max(1, math.floor(side**2 * scales[1]))
    largest = 1
    for rows in range(1, side + 1):
        # Of the ratios that give this number of rows, the smallest one gives the most columns.
        least = max(ratios[0], (rows - 0.5) ** 2 / area if rows > 1 else 0)
        most = min(ratios[1], (rows + 0.5) ** 2 / area if rows < side else math.inf)
        if least <= most:
            columns = min(side, max(1, math.floor(math.sqrt(area / least) + 0.5)))
            largest = max(largest, rows * columns)
    return largest
