"""DINO: predict the teacher's distribution over prototypes from other views.

Source: Caron et al. (2021), "Emerging Properties in Self-Supervised Vision Transformers".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods import assignments
from ssljax.methods.contrast import normalize
from ssljax.methods.embeddings import by_group
from ssljax.methods.method import Context, Metrics, Tree
from ssljax.methods.prototypes import PrototypeMethod
from ssljax.methods.teacher import rising_momentum
from ssljax.models import collectives
from ssljax.models.heads import MLP, Prototypes
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class DINO(PrototypeMethod):
    """The teacher sees the global views, the student all of them; centring avoids collapse."""

    temperature: float = option(0.1, "of the student", above=0)
    teacher_temperature: float = option(0.04, "of the teacher, after the warm-up", above=0)
    first_teacher_temperature: float = option(0.04, "of the teacher, at first", above=0)
    temperature_warmup: float = option(
        0.0, "the share of training in which the teacher's temperature rises", at_least=0, at_most=1
    )
    prototypes: int = option(65536, "outputs of the head", above=1, at_most=1_000_000)
    hidden: int = option(2048, "of the head: hidden units", above=0, at_most=65536)
    layers: int = option(
        3, "of the head: dense layers before the prototypes", at_least=1, at_most=10
    )
    bottleneck: int = option(256, "of the head: units before the prototypes", above=0)
    batch_norm: bool = option(False, "batch normalisation in the head")
    norm_last_layer: bool = option(
        True, "prototypes have length 1; otherwise their lengths are learned, as for ViT-S"
    )
    momentum: float = option(
        0.996, "of the teacher at first; it rises to 1 along half a cosine", at_least=0, at_most=1
    )
    centre_momentum: float = option(0.9, "of the centre", at_least=0, at_most=1)
    views: str = option("dino", "recipe of the views, see docs/views.md")

    couples_examples: ClassVar[bool] = True  # through the centre
    has_teacher: ClassVar[bool] = True
    collapse_reasons: ClassVar[str] = (
        "method.teacher_temperature is too high or too low, or the teacher follows too fast "
        "(method.momentum)"
    )

    def heads(self) -> Mapping[str, Callable[..., Any]]:
        """Appendix C: three dense layers with GELU; a last one with weights of length 1."""
        sizes = (self.hidden,) * (self.layers - 1) + (self.bottleneck,)
        return {
            "projector": functools.partial(MLP, sizes=sizes, norm=self.batch_norm, gelu=True),
            "prototypes": functools.partial(
                Prototypes,
                count=self.prototypes,
                normalize=True,
                learn_lengths=not self.norm_last_layer,
            ),
        }

    def targets(self, net: Any, inputs: Tree) -> jax.Array:
        """The teacher's scores of the global views, float32[B, 2, K]."""
        (features,) = by_group(net, inputs, ("global",))
        scores: jax.Array = net.prototypes(normalize(net.projector(features)))
        return scores

    def teacher_momentum(self, progress: jax.Array) -> jax.Array:
        """Section 3.1, "teacher network"."""
        return rising_momentum(self.momentum, progress)

    def first_memory(self) -> Tree:
        """`centre` float32[K]."""
        return {"centre": jnp.zeros(self.prototypes)}

    def remember(self, outputs: Tree, context: Context) -> Tree:
        """Equation 4: the centre follows the mean of the teacher's scores."""
        return {"centre": self.moved(context.memory["centre"], context.targets)}

    def moved(self, centre: jax.Array, scores: jax.Array) -> jax.Array:
        """A centre, float32[K], after a step with scores float32[B, …, K] of this device."""
        mean = collectives.mean(scores.mean(axis=tuple(range(scores.ndim - 1))))
        keep = self.centre_momentum
        return keep * centre + (1 - keep) * mean

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: equation 3, the mean over all pairs of different views, in nats."""
        logarithms = jax.nn.log_softmax(outputs["scores"] / self.temperature)
        crossed = -jnp.einsum("bgk,bvk->bgv", self._of_teacher(context), logarithms)
        pairs = 2 * (logarithms.shape[1] - 1)
        return (crossed.sum(axis=(1, 2)) - jnp.trace(crossed, axis1=1, axis2=2)) / pairs

    def _of_teacher(self, context: Context) -> jax.Array:
        """The teacher's distribution, float32[B, 2, K]: centred and sharpened."""
        temperatures = (self.first_teacher_temperature, self.teacher_temperature)
        temperature = self.warmed_up(*temperatures, context.progress)
        return jax.nn.softmax((context.targets - context.memory["centre"]) / temperature)

    def warmed_up(self, first: float, last: float, progress: jax.Array) -> jax.Array:
        """A temperature of the teacher, float32[], which rises from `first` to `last`."""
        if not self.temperature_warmup:
            return jnp.asarray(last)
        return first + (last - first) * jnp.clip(progress / self.temperature_warmup, 0, 1)

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """The spread of the embeddings, and the entropies of the teacher's assignments."""
        return {
            **super().metrics(outputs, context),
            **assignments.entropies(self._of_teacher(context), context.batch["mask"]),
        }
