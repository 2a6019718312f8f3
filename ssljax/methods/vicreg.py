"""VICReg: equal embeddings of two views, whose dimensions vary and are not correlated.

Source: Bardes, Ponce and LeCun (2022), "VICReg: Variance-Invariance-Covariance Regularization for
Self-Supervised Learning".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.embeddings import JointEmbedding, each_view
from ssljax.methods.method import Context, Tree
from ssljax.models import collectives
from ssljax.models.heads import MLP
from ssljax.settings.options import option

_EPSILON = 1e-4  # within the root


@dataclasses.dataclass(frozen=True, kw_only=True)
class VICReg(JointEmbedding):
    """Two views of each image; the loss is over the batch of all devices."""

    projection: int = option(8192, "of the expander: units of its layers", above=0, at_most=65536)
    layers: int = option(3, "of the expander: dense layers", at_least=1, at_most=10)
    invariance: float = option(25.0, "weight of the distance of the two views", at_least=0)
    variance: float = option(25.0, "weight of the variance of each dimension", at_least=0)
    covariance: float = option(1.0, "weight of the covariance of dimensions", at_least=0)
    loss_scale: float = option(1.0, "multiplies the loss", above=0)
    views: str = option("vicreg", "recipe of the views, see docs/views.md")

    couples_examples: ClassVar[bool] = True
    has_batch_loss: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = (
        "method.variance is too small beside method.invariance, or the learning rate is too high"
    )

    def heads(self) -> dict[str, functools.partial[MLP]]:
        """Section 4.2: dense, batch normalisation, ReLU, twice; then dense without bias."""
        sizes = (self.projection,) * self.layers
        return {"projector": functools.partial(MLP, sizes=sizes, output_bias=False)}

    def outputs(self, net: object, inputs: Tree) -> Tree:
        """`projections` float32[B, 2, D]."""
        return each_view(net, inputs, ("projector",))

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: equation 6 for the whole batch, B times.

        The variance is the mean over the two views, as in the authors' code; the paper has the sum.
        """
        views = jnp.moveaxis(outputs["projections"].astype(jnp.float32), 1, 0)
        distance = collectives.mean(jnp.mean((views[0] - views[1]) ** 2))
        variance, covariance = zip(*map(_variance_and_covariance, views), strict=True)
        loss = (
            self.invariance * distance
            + self.variance * sum(variance) / 2
            + self.covariance * sum(covariance)
        )
        return jnp.full(views.shape[1], self.loss_scale * loss)


def _variance_and_covariance(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Equations 1 and 4 for float32[b, D], this device's part of the batch."""
    count = len(x) * collectives.device_count()
    centred = x - collectives.mean(x.mean(axis=0))
    product = jnp.matmul(centred.T, centred, precision="highest")
    covariance = collectives.mean(product / len(x)) * (count / (count - 1))
    variances = jnp.diagonal(covariance)
    hinge = jnp.mean(jax.nn.relu(1 - jnp.sqrt(variances + _EPSILON)))
    return hinge, (jnp.sum(covariance**2) - jnp.sum(variances**2)) / x.shape[1]
