"""Jigsaw: predict the original coordinates of shuffled tiles.

Source: Mihajlov, Göktepe and Baur (University of Bern, 2019), "Self-supervised Learning for image
classification on DeepFashion"; after Noroozi and Favaro (2016), "Unsupervised Learning of Visual
Representations by Solving Jigsaw Puzzles", who classify permutations instead.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.methods import tiles as tile_arrays
from ssljax.methods.method import Batch, Context, Metrics
from ssljax.methods.tile_method import Look, TileMethod
from ssljax.models.heads import Linear
from ssljax.settings.errors import InputError
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jigsaw(TileMethod):
    """A grid of tiles is shuffled; the network predicts where each tile came from.

    The image's side is grid × tile, so that no unshuffled border is left. With a gap, there is grey
    around each window.
    """

    grid: int = option(3, "tiles along each side", at_least=2, at_most=64)
    tile: int = option(75, "side of a tile, in pixels", above=0)

    best_metric: ClassVar[str] = "mse"
    best_is_max: ClassVar[bool] = False
    # The accuracy of puzzles says little about the features, so the last weights are transferred.
    hand_over: ClassVar[str] = "latest"
    accuracy_metric: ClassVar[str] = "tiles_placed"

    def __post_init__(self) -> None:
        size = self.data.image_size
        if self.grid * self.tile > size:
            raise InputError(
                f"method.tile: {self.grid}×{self.grid} tiles of {self.tile} px do not fit "
                f"data.image_size={size}; a tile can have 1 to {size // self.grid} px"
            )
        if self.gap >= self.tile:
            raise InputError(f"method.gap must be < method.tile ({self.tile}), got {self.gap}")

    @property
    def cells(self) -> int:
        """The number of tiles along each side."""
        return self.grid

    @property
    def cell(self) -> int:
        """The side of a tile, in pixels."""
        return self.tile

    @property
    def num_tiles(self) -> int:
        """The number of tiles of a puzzle."""
        return self.grid**2

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`permutation` int32[T], uniform, and with a gap `offsets` int32[T, 2] (row, column)."""
        draws = {"permutation": rng.permutation(self.num_tiles).astype(np.int32)}
        return {**draws, **self.draw_offsets(rng, self.num_tiles)}

    def heads(self) -> dict[str, Callable[..., Any]]:
        """The (row, column) of each tile."""
        return {"head": functools.partial(Linear, features=2 * self.num_tiles)}

    def show(self, batch: Batch, look: Look) -> jax.Array:
        """The shuffled image: place i shows the tile that was at place permutation[i]."""
        return tile_arrays.paste(self.tiles(batch, batch["permutation"], look), self.grid)

    def coordinates(self, permutation: jax.Array) -> jax.Array:
        """float32[B, 2T]: the original (row, column) of each tile in order, scaled to [-1, 1]."""
        cells = jnp.stack([permutation // self.grid, permutation % self.grid], axis=-1)
        scaled = cells * (2 / (self.grid - 1)) - 1
        return scaled.reshape(permutation.shape[0], -1).astype(jnp.float32)

    def placed(self, outputs: jax.Array) -> jax.Array:
        """int32[B, T]: the cell nearest to each tile's predicted coordinates."""
        coordinates = outputs.reshape(outputs.shape[0], self.num_tiles, 2)
        cells = jnp.clip(jnp.round((coordinates + 1) * ((self.grid - 1) / 2)), 0, self.grid - 1)
        return (cells[..., 0] * self.grid + cells[..., 1]).astype(jnp.int32)

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """Mean squared error over an example's coordinates."""
        wanted = self.coordinates(context.batch["permutation"])
        return jnp.mean((outputs - wanted) ** 2, axis=-1)

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """mse, tiles_placed (share of tiles) and puzzles_solved (share with all tiles right)."""
        right = (self.placed(outputs) == context.batch["permutation"]).astype(jnp.float32)
        one = jnp.ones(right.shape[0], jnp.float32)
        return {
            "mse": (self.loss(outputs, context), one),
            "tiles_placed": (right.mean(axis=-1), one),
            "puzzles_solved": (right.min(axis=-1), one),
        }

    def chance(self, labels: np.ndarray) -> dict[str, float]:
        """Always the centre for the error; a random arrangement for tiles and puzzles."""
        coordinates = np.arange(self.grid) * 2 / (self.grid - 1) - 1
        guess = {
            "mse": float(np.mean(coordinates**2)),
            "tiles_placed": 1 / self.num_tiles,
            "puzzles_solved": 1 / math.factorial(self.num_tiles),
        }
        return self.with_looks(guess)
