"""Tiles: squares cut out of images, and a grid of them put together again."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ssljax.models.patches import patchify
from ssljax.views import colours

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


def squares(images: jax.Array, corners: jax.Array, side: int) -> jax.Array:
    """Cuts squares out of images at given places.

    Args:
      images: [B, S, S, C].
      corners: int32[B, T, 2], the (row, column) where each square begins, which lies within the
        image.
      side: of the squares, in pixels.

    Returns:
      [B, T, side, side, C].
    """
    channels = images.shape[-1]

    def square(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (side, side, channels))

    return jax.vmap(jax.vmap(square, in_axes=(None, 0)))(images, corners)


def normalize(tiles: jax.Array) -> jax.Array:
    """Gives each tile of [B, T, tile, tile, C] mean 0 and standard deviation 1."""
    mean = tiles.mean(axis=(2, 3, 4), keepdims=True)
    std = tiles.std(axis=(2, 3, 4), keepdims=True)
    return (tiles - mean) / (std + EVEN)


def resize(tiles: jax.Array, side: int) -> jax.Array:
    """[B, T, tile, tile, C] to [B, T, side, side, C]; bilinear, antialiased."""
    batch, count, _, _, channels = tiles.shape
    return jax.image.resize(tiles, (batch, count, side, side, channels), "linear")


def frame(tiles: jax.Array, side: int) -> jax.Array:
    """Puts zeros around tiles [B, T, tile, tile, C], so that they have `side` pixels."""
    missing = side - tiles.shape[2]
    if not missing:
        return tiles
    before, after = missing // 2, missing - missing // 2
    return jnp.pad(tiles, ((0, 0), (0, 0), (before, after), (before, after), (0, 0)))


def in_grey(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Turns images grey.

    Args:
      images: uint8[B, S, S, 3].
      chosen: bool[B], which ones.

    Returns:
      float32[B, S, S, 3] in [0, 1].
    """
    scaled = images.astype(jnp.float32) / 255
    grey = colours.luma(jnp.moveaxis(scaled, -1, 0))[..., None]
    return jnp.where(chosen[:, None, None, None], grey, scaled)
