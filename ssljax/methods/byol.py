"""BYOL: predict what a teacher, an average of earlier weights, says of the other view.

Source: Grill et al. (2020), "Bootstrap Your Own Latent: A New Approach to Self-Supervised
Learning".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.contrast import normalize
from ssljax.methods.embeddings import JointEmbedding, each_view
from ssljax.methods.method import Context, Metrics, Tree
from ssljax.methods.teacher import rising_momentum
from ssljax.models.heads import MLP
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL(JointEmbedding):
    """Two views; each is to predict the teacher's projection of the other. No negatives."""

    hidden: int = option(4096, "of projector and predictor: hidden units", above=0, at_most=65536)
    projection: int = option(256, "of projector and predictor: outputs", above=0, at_most=65536)
    momentum: float = option(
        0.996, "of the teacher at first; it rises to 1 along half a cosine", at_least=0, at_most=1
    )
    views: str = option("byol", "recipe of the views, see docs/views.md")

    has_teacher: ClassVar[bool] = True
    uses_progress: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = (
        "the learning rate is too high, the teacher follows too fast (method.momentum), or the "
        "batch is too small"
    )

    def heads(self) -> dict[str, functools.partial[MLP]]:
        """Projector and predictor: dense, batch normalisation, ReLU, dense without bias."""
        make = functools.partial(MLP, sizes=(self.hidden, self.projection), output_bias=False)
        return {"projector": make, "predictor": make}

    def outputs(self, net: object, inputs: Tree) -> Tree:
        """float32[B, 2, D]: `projections` of the views, and the `predictions` made from them."""
        return each_view(net, inputs, ("projector", "predictor"))

    def targets(self, net: object, inputs: Tree) -> jax.Array:
        """The teacher's projections, float32[B, 2, D]."""
        return each_view(net, inputs, ("projector",))["projections"]

    def teacher_momentum(self, progress: jax.Array) -> jax.Array:
        """Rises along half a cosine, see `rising_momentum`."""
        return rising_momentum(self.momentum, progress)

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: equation 2, the sum over both directions."""
        return jnp.sum(2 - 2 * self._cosines(outputs, context), axis=1)

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """similarity: the cosine of predictions and targets; and the spread of embeddings."""
        similarity = self._cosines(outputs, context).mean(axis=1)
        return {
            "similarity": (similarity, jnp.ones_like(similarity)),
            **super().metrics(outputs, context),
        }

    @staticmethod
    def _cosines(outputs: Tree, context: Context) -> jax.Array:
        targets = normalize(context.targets)[:, ::-1]
        return jnp.sum(normalize(outputs["predictions"]) * targets, axis=-1)
