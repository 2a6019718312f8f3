"""Tiles: an image cut into a grid, and put together again."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ssljax.models.patches import patchify

EVEN = 0.05  # added to a tile's standard deviation, so that a uniform tile stays uniform


def cut(images: jax.Array, grid: int) -> jax.Array:
    """[B, S, S, C] to tiles [B, grid², S/grid, S/grid, C], row by row."""
    batch, side, _, channels = images.shape
    tile = side // grid
    return patchify(images, tile).reshape(batch, grid**2, tile, tile, channels)


def paste(tiles: jax.Array, grid: int) -> jax.Array:
    """The inverse of `cut`."""
    batch, _, tile, _, channels = tiles.shape
    rows = tiles.reshape(batch, grid, grid, tile, tile, channels).transpose(0, 1, 3, 2, 4, 5)
    return rows.reshape(batch, grid * tile, grid * tile, channels)


def windows(tiles: jax.Array, offsets: jax.Array, side: int) -> jax.Array:
    """Cuts a square window out of each tile.

    Args:
      tiles: [B, T, tile, tile, C].
      offsets: int32[B, T, 2], the (row, column) where each window begins.
      side: of the windows, in pixels.
    """
    steps = jnp.arange(side)
    rows = (offsets[:, :, 0, None] + steps)[:, :, :, None, None]
    columns = (offsets[:, :, 1, None] + steps)[:, :, None, :, None]
    return jnp.take_along_axis(jnp.take_along_axis(tiles, rows, 2), columns, 3)


def normalize(tiles: jax.Array) -> jax.Array:
    """Gives each tile of [B, T, tile, tile, C] mean 0 and standard deviation 1."""
    mean = tiles.mean(axis=(2, 3, 4), keepdims=True)
    std = tiles.std(axis=(2, 3, 4), keepdims=True)
    return (tiles - mean) / (std + EVEN)
