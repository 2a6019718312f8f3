"""Positions of patches: fixed ones, and learned ones for images of another size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

NAME = "pos_embed"  # of the parameter with learned positions


def sincos(rows: int, columns: int, channels: int, prefix: int = 0) -> np.ndarray:
    """Sines and cosines of the column, then of the row; zeros for the tokens before the patches.

    Source: He et al. (2022), "Masked Autoencoders Are Scalable Vision Learners", appendix A.1 and
    the official code.

    Args:
      rows: of the grid of patches.
      columns: of the grid.
      channels: D, a multiple of 4.
      prefix: P, the tokens before those of the patches.

    Returns:
      float32[1, P + rows · columns, D].
    """
    quarter = channels // 4
    frequencies = 10000.0 ** -(np.arange(quarter) / quarter)
    row, column = np.divmod(np.arange(rows * columns), columns)
    angles = [place[:, None] * frequencies for place in (column, row)]
    table = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1)
    zeros = np.zeros((prefix, channels))
    return np.concatenate([zeros, table]).astype(np.float32)[None]


def resample(table: jax.Array, rows: int, columns: int, prefix: int) -> jax.Array:
    """Positions for another grid, interpolated as timm's `resample_abs_pos_embed` does.

    That is bicubic and antialiased. Positions before those of the patches stay as they are.

    Args:
      table: float32[1, P + S², D], of a square grid.
      rows: of the new grid.
      columns: of the new grid.
      prefix: P.

    Returns:
      float32[1, P + rows · columns, D].
    """
    side = math.isqrt(table.shape[1] - prefix)
    if (rows, columns) == (side, side):
        return table
    channels = table.shape[-1]
    grid = table[:, prefix:].reshape(1, side, side, channels)
    shape = (1, rows, columns, channels)
    grid = jax.image.resize(grid, shape, "cubic", antialias=True, precision="highest")
    return jnp.concatenate([table[:, :prefix], grid.reshape(1, -1, channels)], axis=1)


def grid_of(shape: Sequence[int]) -> tuple[int, int] | None:
    """The prefix P, 0 or 1, and the side S of positions [1, P + S², D]; None if there are none."""
    if len(shape) == 3 and shape[0] == 1:
        for prefix in (0, 1):
            side = math.isqrt(max(shape[1] - prefix, 0))
            if side and side**2 == shape[1] - prefix:
                return prefix, side
    return None


def fits(source: Sequence[int] | None, shape: Sequence[int]) -> bool:
    """Whether `carried` can make positions of a shape from those of a source.

    Args:
      source: their shape; None if the source has fixed ones, which are not parameters.
      shape: of the new ones.
    """
    new, old = grid_of(shape), grid_of(shape if source is None else source)
    return new is not None and old is not None and new[0] == old[0] and (
        source is None or source[2] == shape[2]
    )  # fmt: skip


def carried(source: np.ndarray | None, shape: Sequence[int]) -> np.ndarray:
    """The positions that learning goes on from; see `fits`.

    Args:
      source: float32[1, P + S², D]; None if they were fixed.
      shape: of the new ones.
    """
    found = grid_of(shape)
    assert found
    prefix, side = found
    if source is None:
        return sincos(side, side, shape[2], prefix)
    return np.asarray(resample(jnp.asarray(source), side, side, prefix))
