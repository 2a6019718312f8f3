"""SwAV: predict the cluster assignment of one view from another view.

Source: Caron et al. (2020), "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods import assignments
from ssljax.methods.contrast import own_places
from ssljax.methods.method import Context, Metrics, Tree
from ssljax.methods.prototypes import PrototypeMethod
from ssljax.methods.queue import check_queue, push
from ssljax.models import collectives
from ssljax.models.heads import MLP, Prototypes, unit_columns
from ssljax.settings.errors import InputError
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwAV(PrototypeMethod):
    """Assignments of the global views are targets of all other views, local ones included."""

    temperature: float = option(0.1, "divides the scores of predictions", above=0)
    # With less, exp(-2 / epsilon) is 0 in float32, and images could be left without an assignment.
    epsilon: float = option(0.05, "smoothness of the assignments", at_least=0.03)
    prototypes: int = option(3000, "number of clusters", above=1, at_most=1_000_000)
    hidden: int = option(2048, "of the projector: hidden units", above=0, at_most=65536)
    projection: int = option(128, "of the projector: outputs", above=0, at_most=65536)
    queue: int = option(
        0, "embeddings of earlier batches that assignments also balance; 0: none", at_least=0
    )
    queue_start: float = option(
        0.0, "the share of training after which the queue is filled, then used", at_least=0, below=1
    )
    views: str = option("swav", "recipe of the views, see docs/views.md")

    couples_examples: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = (
        "method.epsilon is too large, or there are more prototypes than the batch and the queue "
        "can fill"
    )

    def check_batch(self, batch_size: int) -> None:
        """There must be images enough for the prototypes, and the queue must hold whole batches.

        Raises:
          InputError: there are not, or it does not.
        """
        super().check_batch(batch_size)
        check_queue(self.queue, batch_size)
        if self.prototypes > batch_size + self.queue:
            raise InputError(
                f"method.prototypes must be <= batch_size + method.queue = "
                f"{batch_size + self.queue}, since assignments use all prototypes equally; got "
                f"{self.prototypes}; use fewer, or a larger batch or queue"
            )

    def heads(self) -> Mapping[str, Callable[..., Any]]:
        """The authors' code: dense, batch normalisation, ReLU, dense; prototypes."""
        return {
            "projector": functools.partial(MLP, sizes=(self.hidden, self.projection)),
            "prototypes": functools.partial(Prototypes, count=self.prototypes),
        }

    def constrain(self, params: Tree) -> Tree:
        """Prototypes of length 1, as the authors' code keeps them."""
        kernel = unit_columns(params["prototypes"]["kernel"])
        return {**params, "prototypes": {"kernel": kernel}}

    def first_memory(self) -> Tree:
        """`queue` float32[2, L, D] and how much of it is `filled`, int32[]; {} without a queue."""
        if not self.queue:
            return {}
        zeros = jnp.zeros((2, self.queue, self.projection))
        return {"queue": zeros, "filled": jnp.zeros((), jnp.int32)}

    def remember(self, outputs: Tree, context: Context) -> Tree:
        """The global views' embeddings of this batch take the place of the oldest."""
        if not self.queue:
            return context.memory
        new = collectives.gather(outputs["projections"])
        queue = push(context.memory["queue"], jnp.moveaxis(new, 1, 0))
        filled = jnp.minimum(context.memory["filled"] + len(new), self.queue)
        filled = jnp.where(context.progress >= self.queue_start, filled, 0)
        return {"queue": queue, "filled": filled}

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: equation 2 over all pairs of a global view and another view, in nats."""
        scores = outputs["scores"]
        logarithms = jax.nn.log_softmax(scores / self.temperature)
        views, losses = scores.shape[1], jnp.zeros(len(scores))
        for view in (0, 1):
            codes = self._codes(scores[:, view], view, context)
            crossed = -jnp.einsum("bk,bvk->bv", codes, logarithms)
            losses += (crossed.sum(axis=1) - crossed[:, view]) / (views - 1)
        return losses / 2

    def _codes(self, scores: jax.Array, view: int, context: Context) -> jax.Array:
        """The assignments of this device's examples, without gradient."""
        everyone = collectives.gather(jax.lax.stop_gradient(scores))
        weights = jnp.ones(len(everyone))
        if self.queue:
            kernel = context.params["prototypes"]["kernel"]
            earlier = jnp.matmul(context.memory["queue"][view], kernel, precision="highest")
            full = (context.memory["filled"] >= self.queue).astype(jnp.float32)
            everyone = jnp.concatenate([everyone, earlier])
            weights = jnp.concatenate([weights, jnp.full(self.queue, full)])
        codes = assignments.sinkhorn(everyone, weights, self.epsilon)
        return codes[own_places(len(scores))]

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """The spread of the embeddings, and the entropies of the predicted assignments."""
        predicted = jax.nn.softmax(outputs["scores"] / self.temperature)
        return {
            **super().metrics(outputs, context),
            **assignments.entropies(predicted, context.batch["mask"]),
        }
