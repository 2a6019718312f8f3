"""Jigsaw permutations: predict which permutation of a fixed set has shuffled the tiles.

Source: Noroozi and Favaro (2016), "Unsupervised Learning of Visual Representations by Solving
Jigsaw Puzzles". The head is that of Goyal et al. (2019), "Scaling and Benchmarking Self-Supervised
Visual Representation Learning", and of its code, VISSL.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.methods.method import Batch, Context, Metrics
from ssljax.methods.permutations import CRITERIA, permutation_set
from ssljax.methods.siamese_tiles import SiameseTiles
from ssljax.methods.tile_method import Look
from ssljax.models.heads import MLP, Linear
from ssljax.settings.errors import InputError
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class JigsawPermutations(SiameseTiles):
    """Each tile of a puzzle goes through the same backbone; their features together are classified.

    The classes are permutations that differ in as many places as possible.
    """

    grid: int = option(3, "tiles along each side", at_least=2, at_most=8)
    permutations: int = option(
        100, "the number of permutations, which are the classes", at_least=2, at_most=10_000
    )
    distance: str = option(
        "mean",
        "each further permutation has the largest mean (as in the paper) or minimum of Hamming "
        "distances to the earlier ones",
        choices=CRITERIA,
    )
    permutation_seed: int = option(
        0, "of the set of permutations; not that of the run, so that runs have the same", at_least=0
    )
    hidden: int = option(1000, "of the head: outputs for each tile", above=0, at_most=65536)

    best_metric: ClassVar[str] = "top1"
    accuracy_metric: ClassVar[str] = "top1"

    def __post_init__(self) -> None:
        super().__post_init__()
        most = math.factorial(self.num_tiles)
        if self.permutations > most:
            raise InputError(
                f"method.permutations must be <= {most:,}, the number of permutations of "
                f"{self.grid}×{self.grid} tiles, got {self.permutations:,}"
            )

    @property
    def cells(self) -> int:
        """The number of tiles along each side."""
        return self.grid

    @property
    def num_tiles(self) -> int:
        """The number of tiles of a puzzle."""
        return self.grid**2

    @property
    def permutation_set(self) -> np.ndarray:
        """int32[N, T], the classes; row p is the place that each tile had before."""
        return permutation_set(
            self.num_tiles, self.permutations, self.distance, self.permutation_seed
        )

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`permutation` int32[], its number in the set, uniform; see also `draw_looks`."""
        number = np.asarray(rng.integers(self.permutations), np.int32)
        return {"permutation": number, **self.draw_looks(rng, self.num_tiles)}

    def heads(self) -> dict[str, Callable[..., Any]]:
        """Dense, batch normalisation and ReLU for each tile; one logit per permutation."""
        of_tiles = functools.partial(MLP, sizes=(self.hidden,), output_bias=False, output_norm=True)
        return {
            "tile_head": of_tiles,
            "head": functools.partial(Linear, features=self.permutations),
        }

    def show(self, batch: Batch, look: Look) -> jax.Array:
        """float32[B, T, …]: place i shows the tile that was at place permutation_set[p][i]."""
        order = jnp.asarray(self.permutation_set)[batch["permutation"]]
        return self.tiles(batch, order, look)

    def outputs(self, net: Any, inputs: jax.Array) -> jax.Array:
        """float32[B, N] from tiles float32[B, T, …]."""
        features = nn.relu(net.tile_head(net.backbone(inputs)))
        return net.head(features.reshape(len(features), -1))

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B]: softmax cross entropy, in nats."""
        wanted = context.batch["permutation"]
        return optax.softmax_cross_entropy_with_integer_labels(outputs, wanted)

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """top1: the share of puzzles whose permutation is predicted."""
        right = (outputs.argmax(axis=-1) == context.batch["permutation"]).astype(jnp.float32)
        return {"top1": (right, jnp.ones_like(right))}

    def chance(self, labels: np.ndarray) -> dict[str, float]:
        """A random permutation of the set."""
        return self.with_looks({"top1": 1 / self.permutations})
