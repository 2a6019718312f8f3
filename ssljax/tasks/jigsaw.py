"""Jigsaw: regress the original coordinates of shuffled tiles.

Source: slides, "Pretext task"; after Noroozi and Favaro (2016), who classify permutations instead.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError
from ssljax.tasks.task import Batch, Metrics, Task

EVEN = 0.05  # added to a tile's standard deviation, so that a plain tile stays plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jigsaw(Task):
    """A grid of tiles is shuffled; the network tells where each one came from.

    The picture's side is grid × tile, so that no unshuffled rim is left.

    Attributes:
      grid: tiles along each side.
      tile: a tile's side in pixels.
      gap: each tile is cut as a window of (tile - gap)² pixels at a random offset in its cell and
        shown in the middle of its cell, with grey around it, so that neighbouring tiles cannot be
        told from matching edges (Noroozi and Favaro, section 3.3). 0 is the slides' puzzle.
      normalize_tiles: gives every tile mean 0 and standard deviation 1 by itself, so that it cannot
        be placed by its brightness alone (Noroozi and Favaro, section 3.3).
    """

    grid: int = 3
    tile: int = 75
    gap: int = 0
    normalize_tiles: bool = False

    needs_labels: ClassVar[bool] = False
    best_metric: ClassVar[str] = "mse"
    best_is_max: ClassVar[bool] = False
    # Puzzle accuracy says little about features, so nothing is selected on it.
    hand_over: ClassVar[str] = "latest"

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise InputError(f"task.grid: {self.grid} tiles a side are no puzzle; at least 2")
        if self.grid * self.tile > self.data_image_size or self.tile < 1:
            raise InputError(
                f"task.tile: {self.grid}×{self.grid} tiles of {self.tile} px do not fit "
                f"data.image_size={self.data_image_size}; "
                f"a tile has 1 to {self.data_image_size // self.grid} px"
            )
        if not 0 <= self.gap < self.tile:
            raise InputError(f"task.gap: {self.gap} px of a tile of {self.tile} px; 0 ≤ gap < tile")

    @property
    def image_size(self) -> int:
        """Pictures are resized to grid × tile pixels."""
        return self.grid * self.tile

    @property
    def num_tiles(self) -> int:
        """Tiles of a puzzle."""
        return self.grid**2

    @property
    def num_outputs(self) -> int:
        """(row, column) of each tile."""
        return 2 * self.num_tiles

    def draw(self, label: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """`permutation` int32[T], uniform, and with a gap `offsets` int32[T, 2] (row, column)."""
        draws = {"permutation": rng.permutation(self.num_tiles).astype(np.int32)}
        if self.gap:
            draws["offsets"] = rng.integers(self.gap + 1, size=(self.num_tiles, 2), dtype=np.int32)
        return draws

    def inputs(self, batch: Batch) -> jax.Array:
        """The shuffled picture: at place i stands the tile that was at place permutation[i]."""
        tiles = cut(self.normalize(batch["image"]), self.grid)
        tiles = jnp.take_along_axis(tiles, batch["permutation"][:, :, None, None, None], axis=1)
        if self.gap:
            tiles = self._windows(tiles, batch["offsets"])
        if self.normalize_tiles:
            mean = tiles.mean(axis=(2, 3, 4), keepdims=True)
            std = tiles.std(axis=(2, 3, 4), keepdims=True)
            tiles = (tiles - mean) / (std + EVEN)
        if self.gap:
            before, after = self.gap // 2, self.gap - self.gap // 2
            # Zero is mid-grey, or a normalised tile's mean.
            tiles = jnp.pad(tiles, ((0, 0), (0, 0), (before, after), (before, after), (0, 0)))
        return paste(tiles, self.grid)

    def _windows(self, tiles: jax.Array, offsets: jax.Array) -> jax.Array:
        """Cuts the window at its offset out of each tile."""
        side = jnp.arange(self.tile - self.gap)
        rows = (offsets[:, :, 0, None] + side)[:, :, :, None, None]
        columns = (offsets[:, :, 1, None] + side)[:, :, None, :, None]
        return jnp.take_along_axis(jnp.take_along_axis(tiles, rows, 2), columns, 3)

    def targets(self, permutation: jax.Array) -> jax.Array:
        """float32[B, 2T]: the original (row, column) of each tile in order, scaled to [-1, 1]."""
        cells = jnp.stack([permutation // self.grid, permutation % self.grid], axis=-1)
        scaled = cells * (2 / (self.grid - 1)) - 1
        return scaled.reshape(permutation.shape[0], -1).astype(jnp.float32)

    def placed(self, outputs: jax.Array) -> jax.Array:
        """int32[B, T]: the cell nearest to each tile's predicted coordinates."""
        coordinates = outputs.reshape(outputs.shape[0], self.num_tiles, 2)
        cells = jnp.clip(jnp.round((coordinates + 1) * ((self.grid - 1) / 2)), 0, self.grid - 1)
        return (cells[..., 0] * self.grid + cells[..., 1]).astype(jnp.int32)

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Mean squared error over an example's coordinates."""
        return jnp.mean((outputs - self.targets(batch["permutation"])) ** 2, axis=-1)

    def metrics(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """mse, tiles_placed (share of tiles) and puzzles_solved (share with all tiles right)."""
        right = (self.placed(outputs) == batch["permutation"]).astype(jnp.float32)
        one = jnp.ones(right.shape[0], jnp.float32)
        return {
            "mse": (self.loss(outputs, batch), one),
            "tiles_placed": (right.mean(axis=-1), one),
            "puzzles_solved": (right.min(axis=-1), one),
        }

    def floor(self, labels: np.ndarray) -> dict[str, float]:
        """Always the middle for the error; a random arrangement for tiles and puzzles."""
        coordinates = np.arange(self.grid) * 2 / (self.grid - 1) - 1
        return {
            "mse": float(np.mean(coordinates**2)),
            "tiles_placed": 1 / self.num_tiles,
            "puzzles_solved": 1 / math.factorial(self.num_tiles),
        }


def cut(images: jax.Array, grid: int) -> jax.Array:
    """[B, S, S, C] to tiles [B, grid², S/grid, S/grid, C], row by row."""
    batch, side, _, channels = images.shape
    tile = side // grid
    tiles = images.reshape(batch, grid, tile, grid, tile, channels)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(batch, grid**2, tile, tile, channels)


def paste(tiles: jax.Array, grid: int) -> jax.Array:
    """The inverse of `cut`."""
    batch, _, tile, _, channels = tiles.shape
    rows = tiles.reshape(batch, grid, grid, tile, tile, channels).transpose(0, 1, 3, 2, 4, 5)
    return rows.reshape(batch, grid * tile, grid * tile, channels)
