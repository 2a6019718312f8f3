"""MoCo: find the teacher's embedding of the other view among many, of this batch or of a queue.

Sources: He et al. (2020), "Momentum Contrast for Unsupervised Visual Representation Learning";
Chen, Fan, Girshick and He (2020), "Improved Baselines with Momentum Contrastive Learning" (v2);
Chen, Xie and He (2021), "An Empirical Study of Training Self-Supervised Vision Transformers" (v3).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.contrast import info_nce, normalize, own_places
from ssljax.methods.embeddings import JointEmbedding, each_view
from ssljax.methods.method import Batch, Context, Metrics, Tree
from ssljax.methods.queue import check_queue, push
from ssljax.methods.teacher import rising_momentum
from ssljax.models import batch_norm, collectives
from ssljax.models.heads import MLP
from ssljax.settings.errors import InputError
from ssljax.settings.options import option
from ssljax.views.keys import SHUFFLE, fold_in


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCo(JointEmbedding):
    """Version 3: both views are queries, and the keys of the other views are those of the batch."""

    temperature: float = option(1.0, "divides the cosine similarities", above=0)
    hidden: int = option(4096, "of projector and predictor: hidden units", above=0, at_most=65536)
    projection: int = option(256, "of projector and predictor: outputs", above=0, at_most=65536)
    projector_layers: int = option(2, "dense layers; 3 for ViTs", at_least=1, at_most=10)
    predictor_norm: bool = option(False, "the predictor ends in a normalisation; so for ViTs")
    momentum: float = option(
        0.99, "of the teacher at first; it rises to 1 along half a cosine", at_least=0, at_most=1
    )
    views: str = option("byol", "recipe of the views, see docs/views.md")

    couples_examples: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = True
    uses_progress: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = (
        "the learning rate is too high, or the teacher follows too fast (method.momentum)"
    )

    def heads(self) -> dict[str, functools.partial[MLP]]:
        """The authors' code: without biases; the projector ends in a normalisation."""

        def make(layers: int, norm: bool) -> functools.partial[MLP]:
            return functools.partial(
                MLP,
                sizes=(self.hidden,) * (layers - 1) + (self.projection,),
                use_bias=False,
                output_bias=False,
                output_norm=norm,
                output_scale=False,
                output_shift=False,
            )

        return {
            "projector": make(self.projector_layers, True),
            "predictor": make(2, self.predictor_norm),
        }

    def outputs(self, net: Any, inputs: Tree) -> Tree:
        """float32[B, 2, D]: `projections` of the views, and the `predictions` made from them."""
        return each_view(net, inputs, ("projector", "predictor"))

    def targets(self, net: Any, inputs: Tree) -> jax.Array:
        """The teacher's keys, float32[B, 2, D]."""
        return normalize(each_view(net, inputs, ("projector",))["projections"])

    def teacher_momentum(self, progress: jax.Array) -> jax.Array:
        """Section 3 and `--moco-m-cos` of the authors' code."""
        return rising_momentum(self.momentum, progress)

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: algorithm 1, 2 τ × the cross entropy, summed over both directions."""
        return 2 * self.temperature * self._found(outputs, context)[0].sum(axis=0)

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """accuracy: the share of queries whose key is the most similar one."""
        found = self._found(outputs, context)[1].mean(axis=0)
        return {"accuracy": (found, jnp.ones_like(found)), **super().metrics(outputs, context)}

    def _found(self, outputs: Tree, context: Context) -> tuple[jax.Array, jax.Array]:
        """float32[2, B] each: the losses, and whether the key was found, by query."""
        queries, own = normalize(outputs["predictions"]), own_places(len(context.targets))
        pairs = [
            info_nce(
                queries[:, view],
                collectives.gather(context.targets[:, 1 - view]),
                own,
                self.temperature,
            )
            for view in (0, 1)
        ]
        losses, found = zip(*pairs, strict=True)
        return jnp.stack(losses), jnp.stack(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCoV2(JointEmbedding):
    """Version 2: the first view is the query, and the other keys are those of earlier batches.

    Queries and keys are normalised in groups of other images, so that the batch statistics do not
    tell which key belongs to a query (He et al., 2020, section 3.3, "shuffling BN").
    """

    temperature: float = option(0.2, "divides the cosine similarities", above=0)
    queue: int = option(65536, "keys of earlier batches; a multiple of batch_size", above=0)
    hidden: int = option(0, "hidden units of the projector; 0: as many as features", at_least=0)
    projection: int = option(128, "outputs of the projector", above=0, at_most=65536)
    momentum: float = option(0.999, "of the teacher", at_least=0, at_most=1)
    group: int = option(32, "images that share batch statistics", above=1)
    views: str = option("moco_v2", "recipe of the views, see docs/views.md")

    couples_examples: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = MoCo.collapse_reasons

    def check_batch(self, batch_size: int) -> None:
        """The queue must hold whole batches, and a batch at least two groups.

        Raises:
          InputError: they do not.
        """
        super().check_batch(batch_size)
        if batch_size < 2 * self.group:
            raise InputError(
                f"method.group must be <= batch_size / 2 = {batch_size // 2}, so that queries and "
                f"keys can be divided differently; got {self.group}"
            )
        check_queue(self.queue, batch_size)

    def heads(self) -> dict[str, functools.partial[MLP]]:
        """Dense, ReLU, dense; without normalisation (Chen et al., 2020, section 3)."""
        sizes = (self.hidden, self.projection)
        return {"projector": functools.partial(MLP, sizes=sizes, norm=False)}

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """The `views`, and `shuffle` float32[B], whose order divides the keys into groups."""
        numbers = jax.vmap(jax.random.uniform)(fold_in(keys, SHUFFLE))
        return {"views": super().inputs(batch, keys, train), "shuffle": numbers}

    def outputs(self, net: Any, inputs: Tree) -> Tree:
        """The queries: `projections` float32[B, 1, D]."""
        first = inputs["views"][:, :1]
        with self._groups(own_places(len(first)), len(first)):
            return each_view(net, first, ("projector",))

    def targets(self, net: Any, inputs: Tree) -> jax.Array:
        """The keys, float32[B, D]."""
        second = inputs["views"][:, 1:]
        order = jnp.argsort(collectives.gather(inputs["shuffle"]))
        places = jnp.argsort(order)[own_places(len(second))]
        with self._groups(places, len(second)):
            return normalize(each_view(net, second, ("projector",))["projections"][:, 0])

    @contextlib.contextmanager
    def _groups(self, places: jax.Array, count: int) -> Iterator[None]:
        """Divides the examples of all devices into groups by their places."""
        total = count * collectives.device_count()
        groups = max(1, total // self.group)
        with batch_norm.grouped(places * groups // total, groups):
            yield

    def teacher_momentum(self, progress: jax.Array) -> float:
        """Constant."""
        return self.momentum

    def first_memory(self) -> Tree:
        """`queue` float32[K, D]: random directions."""
        numbers = jax.random.normal(jax.random.key(0), (self.queue, self.projection))
        return {"queue": normalize(numbers)}

    def remember(self, outputs: Tree, context: Context) -> Tree:
        """The keys of this batch take the place of the oldest."""
        return {"queue": push(context.memory["queue"], collectives.gather(context.targets))}

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: equation 1 of He et al. (2020), in nats."""
        return self._found(outputs, context)[0]

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """accuracy: the share of queries whose key is the most similar one."""
        found = self._found(outputs, context)[1]
        return {"accuracy": (found, jnp.ones_like(found)), **super().metrics(outputs, context)}

    def embeddings(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B, 2, D]: the queries and the keys."""
        return jnp.concatenate([outputs["projections"], context.targets[:, None]], axis=1)

    def _found(self, outputs: Tree, context: Context) -> tuple[jax.Array, jax.Array]:
        queries = normalize(outputs["projections"][:, 0])
        positive = jnp.sum(queries * context.targets, axis=-1, keepdims=True)
        others = jnp.matmul(queries, context.memory["queue"].T, precision="highest")
        similarities = jnp.concatenate([positive, others], axis=1)
        logits = similarities / self.temperature
        losses = jax.nn.logsumexp(logits, axis=1) - logits[:, 0]
        return losses, (logits[:, :1] >= logits).all(axis=1).astype(jnp.float32)  # not of NaN
