"""Relative patch: predict on which of eight sides of a tile its neighbour lies.

Source: Doersch, Gupta and Efros (2015), "Unsupervised Visual Representation Learning by Context
Prediction"; on a grid as in Kolesnikov, Zhai and Beyer (2019), "Revisiting Self-Supervised Visual
Representation Learning", where pairs are those of the centre with each other tile.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.methods.method import Batch, Context, Metrics
from ssljax.methods.siamese_tiles import SiameseTiles
from ssljax.methods.tile_method import Look
from ssljax.models.heads import MLP
from ssljax.settings.options import option

GRID = 3
CENTRE = 4
SIDES = 8  # row by row, without the centre


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativePatch(SiameseTiles):
    """Two tiles of a 3×3 grid go through the same backbone; their features together are classified.

    The first one is the centre.
    """

    all_pairs: bool = option(
        True, "show the centre with all eight neighbours, not with a random one"
    )
    hidden: int = option(4096, "of the head: hidden units", above=0, at_most=65536)

    best_metric: ClassVar[str] = "accuracy"

    @property
    def cells(self) -> int:
        """Three."""
        return GRID

    @property
    def num_tiles(self) -> int:
        """The number of tiles that are shown: the centre and its neighbours."""
        return 1 + (SIDES if self.all_pairs else 1)

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`sides` int32[P]: where the neighbour of each pair lies; see also `draw_looks`."""
        sides = np.arange(SIDES) if self.all_pairs else rng.integers(SIDES, size=1)
        return {"sides": sides.astype(np.int32), **self.draw_looks(rng, self.num_tiles)}

    def heads(self) -> dict[str, Callable[..., Any]]:
        """Dense, batch normalisation and ReLU; then one logit per side."""
        return {"head": functools.partial(MLP, sizes=(self.hidden, SIDES), use_bias=False)}

    def show(self, batch: Batch, look: Look) -> jax.Array:
        """float32[B, 1 + P, …]: the centre and its neighbours."""
        sides = batch["sides"]
        neighbours = sides + (sides >= CENTRE)
        centre = jnp.full_like(sides[:, :1], CENTRE)
        return self.tiles(batch, jnp.concatenate([centre, neighbours], axis=1), look)

    def outputs(self, net: Any, inputs: jax.Array) -> jax.Array:
        """float32[B, P, 8] from tiles float32[B, 1 + P, …]."""
        features = net.backbone(inputs)
        neighbours = features[:, 1:]
        centre = jnp.broadcast_to(features[:, :1], neighbours.shape)
        return net.head(jnp.concatenate([centre, neighbours], axis=-1))

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B]: softmax cross entropy in nats, the mean over an image's pairs."""
        sides = context.batch["sides"]
        return optax.softmax_cross_entropy_with_integer_labels(outputs, sides).mean(axis=1)

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """accuracy: the share of pairs whose side is predicted."""
        right = outputs.argmax(axis=-1) == context.batch["sides"]
        share = right.mean(axis=1, dtype=jnp.float32)
        return {"accuracy": (share, jnp.ones_like(share))}

    def chance(self, labels: np.ndarray) -> dict[str, float]:
        """A random side."""
        return self.with_looks({"accuracy": 1 / SIDES})
