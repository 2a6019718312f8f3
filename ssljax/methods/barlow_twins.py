"""Barlow Twins: make the cross-correlation of two views' embeddings the identity.

Source: Zbontar et al. (2021), "Barlow Twins: Self-Supervised Learning via Redundancy Reduction".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.embeddings import JointEmbedding, each_view
from ssljax.methods.method import Context, Tree
from ssljax.methods.parameter_groups import ParameterGroup
from ssljax.models import collectives
from ssljax.models.heads import MLP
from ssljax.settings.options import option

_EPSILON = 1e-5  # of the normalisation, as in PyTorch's BatchNorm1d


@dataclasses.dataclass(frozen=True, kw_only=True)
class BarlowTwins(JointEmbedding):
    """Two views of each image; the loss is over the batch of all devices."""

    projection: int = option(8192, "of the projector: units of its layers", above=0, at_most=65536)
    layers: int = option(3, "of the projector: dense layers", at_least=1, at_most=10)
    off_diagonal: float = option(0.0051, "weight of the redundancy, λ", at_least=0)
    loss_scale: float = option(1.0, "multiplies the loss", above=0)
    bias_learning_rate: float = option(
        1.0, "multiplies the learning rate of biases and of normalisations", above=0
    )
    views: str = option("byol", "recipe of the views, see docs/views.md")

    couples_examples: ClassVar[bool] = True
    has_batch_loss: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = (
        "the learning rate is too high, or method.off_diagonal is far from 1 / method.projection"
    )

    def heads(self) -> dict[str, functools.partial[MLP]]:
        """Section 2.2: dense layers without biases, batch normalisation and ReLU between them."""
        sizes = (self.projection,) * self.layers
        return {"projector": functools.partial(MLP, sizes=sizes, use_bias=False, output_bias=False)}

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Biases and normalisations have a learning rate of their own: LARS does not adapt it."""
        return tuple(
            ParameterGroup(pattern, self.bias_learning_rate) for pattern in ("*/bias", "*/scale")
        )

    def outputs(self, net: object, inputs: Tree) -> Tree:
        """`projections` float32[B, 2, D]."""
        return each_view(net, inputs, ("projector",))

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: equation 1 for the whole batch, B times."""
        first, second = jnp.moveaxis(outputs["projections"].astype(jnp.float32), 1, 0)
        product = jnp.matmul(_normalize(first).T, _normalize(second), precision="highest")
        correlation = collectives.mean(product / len(first))
        diagonal = jnp.diagonal(correlation)
        redundancy = jnp.sum(correlation**2) - jnp.sum(diagonal**2)
        loss = jnp.sum((1 - diagonal) ** 2) + self.off_diagonal * redundancy
        return jnp.full(len(first), self.loss_scale * loss)


def _normalize(x: jax.Array) -> jax.Array:
    """Every column to mean 0 and variance 1 over the batch of all devices."""
    centred = x - collectives.mean(x.mean(axis=0))
    variance = collectives.mean(jnp.square(centred).mean(axis=0))
    return centred * jax.lax.rsqrt(variance + _EPSILON)
