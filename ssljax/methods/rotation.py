"""Rotation: predict by how many quarter turns the image was rotated.

Source: Gidaris, Singh and Komodakis (2018), "Unsupervised Representation Learning by Predicting
Image Rotations".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.methods.method import Batch, Context, Method, Metrics
from ssljax.models.heads import Linear
from ssljax.settings.options import option

TURNS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation(Method):
    """An image is shown at all four angles, or at a random one."""

    all_turns: bool = option(True, "show each image at all four angles, not at a random one")

    best_metric: ClassVar[str] = "accuracy"

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`turns` int32[V]: the quarter turns of each view; on the host, without pixels."""
        turns = np.arange(TURNS) if self.all_turns else rng.integers(TURNS, size=1)
        return {"turns": turns.astype(np.int32)}

    def heads(self) -> dict[str, functools.partial[Linear]]:
        """One logit per angle."""
        return {"head": functools.partial(Linear, features=TURNS)}

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> jax.Array:
        """The rotated images, float32[B, V, S, S, 3]; on the devices."""
        images = self.normalize(batch["image"])
        rotated = jnp.stack([jnp.rot90(images, k, axes=(1, 2)) for k in range(TURNS)], axis=1)
        return jnp.take_along_axis(rotated, batch["turns"][:, :, None, None, None], axis=1)

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B]: softmax cross entropy in nats, the mean over an image's views."""
        turns = context.batch["turns"]
        return optax.softmax_cross_entropy_with_integer_labels(outputs, turns).mean(axis=1)

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """accuracy: the share of views whose angle is predicted."""
        right = outputs.argmax(axis=-1) == context.batch["turns"]
        share = right.mean(axis=1, dtype=jnp.float32)
        return {"accuracy": (share, jnp.ones_like(share))}

    def chance(self, labels: np.ndarray) -> dict[str, float]:
        """A random angle."""
        return {"accuracy": 1 / TURNS}
