"""SimSiam: predict the projection of the other view, to which no gradient flows.

Source: Chen and He (2021), "Exploring Simple Siamese Representation Learning".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.contrast import normalize
from ssljax.methods.embeddings import JointEmbedding, each_view
from ssljax.methods.method import Context, Tree
from ssljax.methods.parameter_groups import ParameterGroup
from ssljax.models.heads import MLP
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimSiam(JointEmbedding):
    """Two views of each image. Neither negatives nor a teacher; the stop-gradient is enough."""

    projection: int = option(2048, "of the projector: units of all layers", above=0, at_most=65536)
    projector_layers: int = option(3, "of the projector: dense layers", at_least=1, at_most=10)
    hidden: int = option(512, "of the predictor: hidden units", above=0, at_most=65536)
    views: str = option("moco_v2", "recipe of the views, see docs/views.md")

    collapse_reasons: ClassVar[str] = (
        "the gradient flows to the targets, the learning rate is too high, or the predictor's is "
        "too low"
    )

    def heads(self) -> dict[str, functools.partial[MLP]]:
        """Section 3: no biases before normalisations, whose last one has no parameters."""
        return {
            "projector": functools.partial(
                MLP,
                sizes=(self.projection,) * self.projector_layers,
                use_bias=False,
                output_bias=False,
                output_norm=True,
                output_scale=False,
                output_shift=False,
            ),
            "predictor": functools.partial(
                MLP, sizes=(self.hidden, self.projection), use_bias=False
            ),
        }

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """The predictor's learning rate does not decay (section 4.2)."""
        return (ParameterGroup("predictor", scheduled=False),)

    def outputs(self, net: object, inputs: Tree) -> Tree:
        """float32[B, 2, D]: `projections` of the views, and the `predictions` made from them."""
        return each_view(net, inputs, ("projector", "predictor"))

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: equation 2, from -1 to 1."""
        targets = jax.lax.stop_gradient(normalize(outputs["projections"]))[:, ::-1]
        return -jnp.sum(normalize(outputs["predictions"]) * targets, axis=-1).mean(axis=1)
