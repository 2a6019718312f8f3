"""SimCLR: recognise the other view of an image among all views of the batch.

Source: Chen, Kornblith, Norouzi and Hinton (2020), "A Simple Framework for Contrastive Learning of
Visual Representations".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.contrast import nt_xent
from ssljax.methods.embeddings import JointEmbedding
from ssljax.methods.method import Context, Metrics
from ssljax.models.heads import MLP
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR(JointEmbedding):
    """Two views of each image; the loss is over the batch of all devices."""

    temperature: float = option(0.1, "divides the cosine similarities", above=0)
    hidden: int = option(
        0, "of the projector: hidden units; 0: as many as features", at_least=0, at_most=65536
    )
    projection: int = option(128, "of the projector: outputs", above=0, at_most=65536)
    views: str = option("simclr", "recipe of the views, see docs/views.md")

    couples_examples: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = (
        "the learning rate is too high, or method.temperature is too high for the batch"
    )

    def heads(self) -> dict[str, functools.partial[MLP]]:
        """Two dense layers without biases, each with batch normalisation (the authors' code)."""
        return {
            "head": functools.partial(
                MLP,
                sizes=(self.hidden, self.projection),
                use_bias=False,
                output_bias=False,
                output_norm=True,
                output_shift=False,
            )
        }

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B]: NT-Xent in nats, the mean over an image's two views."""
        return nt_xent(outputs, self.temperature)[0]

    def embeddings(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B, 2, D]: the outputs themselves."""
        return outputs

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """accuracy: the share of views that are most similar to the other view of their image."""
        found = nt_xent(outputs, self.temperature)[1]
        return {
            "accuracy": (found, jnp.ones_like(found)),
            **super().metrics(outputs, context),
        }
