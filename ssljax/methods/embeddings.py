"""What methods share that compare embeddings of views: how they are made, and if they collapse."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.contrast import normalize
from ssljax.methods.method import BatchMetric, Context, Metrics, Tree
from ssljax.methods.view_method import ViewMethod
from ssljax.models import collectives
from ssljax.settings.errors import InputError
from ssljax.views.recipes import ONE_CHANNEL, SMALL

# Below these, embeddings have collapsed. Those of trained networks vary in many dimensions.
LEAST_STD, LEAST_RANK = 0.02, 2.0
_SAMPLE = 256  # images whose embeddings are looked at together


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointEmbedding(ViewMethod):
    """A method that brings embeddings of an image's views together.

    It fails if it maps all images to the same embedding, or to a few dimensions. `metrics` and
    `diagnostics` show that, and `concerns` says it.
    """

    collapse_reasons: ClassVar[str] = "the learning rate is too high"
    multi_crop: ClassVar[bool] = False  # takes recipes with local views

    def __post_init__(self) -> None:
        super().__post_init__()
        groups = self.recipe
        if len(groups["global"].views) != 2:
            raise InputError(f"method.views: {self.views} does not have two views to compare")
        if len(groups) > 1 and not self.multi_crop:
            raise InputError(
                f"method.views: {self.views} has local views, which only swav, dino and ibot take; "
                f"{self.views.removesuffix(ONE_CHANNEL)}{SMALL} has none"
            )

    def embeddings(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B, V, D], V >= 2: what may collapse."""
        found: jax.Array = outputs["projections"]
        return found

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """embedding_std, see there."""
        embeddings = self.embeddings(outputs, context)
        spread = embedding_std(embeddings, context.batch["mask"])
        return of_batch({"embedding_std": spread}, len(embeddings))

    def diagnostics(self, outputs: Tree, context: Context) -> Metrics:
        """The shape of the embeddings of up to 256 images of a batch, when validating.

        alignment: the mean squared distance of an image's first two views; uniformity: the
        logarithm of the mean of exp(-2 × squared distance) over pairs of images (Wang and Isola,
        2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity
        on the Hypersphere", section 4.1); rank: the exponential of the entropy of the singular
        values, an effective number of dimensions (Garrido et al., 2023, "RankMe", equation 1).
        """
        own = normalize(self.embeddings(outputs, context))
        distances = jnp.sum(jnp.square(own[:, 0] - own[:, 1]), axis=-1)
        some = collectives.gather(own)[:_SAMPLE, 0]
        count = len(some)
        cosines = jnp.matmul(some, some.T, precision="highest")
        squares = jnp.sum(jnp.square(some), axis=-1)  # 1, or 0 of an embedding of zeros
        similar = jnp.exp(-2 * (squares[:, None] + squares - 2 * cosines))
        pairs = (similar.sum() - jnp.trace(similar)) / max(count * (count - 1), 1)
        values = jnp.linalg.svd(some, compute_uv=False)
        shares = values / jnp.maximum(values.sum(), 1e-7) + 1e-7
        rank = jnp.exp(-jnp.sum(shares * jnp.log(shares)))
        found = {"uniformity": jnp.log(jnp.maximum(pairs, 1e-30)), "rank": rank}
        return {"alignment": (distances, jnp.ones_like(distances)), **of_batch(found, len(own))}

    def concerns(self, metrics: Mapping[str, float]) -> list[str]:
        """Says if the embeddings have collapsed, and what the likely reason is."""
        spread, rank = metrics["embedding_std"], metrics["rank"]
        if spread >= LEAST_STD and rank >= LEAST_RANK:
            return []
        return [
            f"the embeddings have collapsed: their effective rank is {rank:.1f}, and embedding_std "
            f"is {spread:.3f} (1: spread evenly, 0: all equal); likely {self.collapse_reasons}"
        ]


def embedding_std(embeddings: jax.Array, mask: jax.Array) -> jax.Array:
    """The standard deviation of the normalised embeddings of a batch × √D.

    It is 1 if they are spread evenly over the sphere and 0 if all are equal (Chen and He, 2021,
    "Exploring Simple Siamese Representation Learning", section 4.1).

    Args:
      embeddings: float32[B, V, D].
      mask: bool[B], the images that count.

    Returns:
      float32[].
    """
    unit = jax.lax.stop_gradient(normalize(embeddings))
    counts = mask.astype(jnp.float32)
    counts /= collectives.mean(counts.mean())
    mean = collectives.mean(jnp.einsum("b,bvd->vd", counts, unit) / len(unit))
    squares = jnp.einsum("b,bvd->vd", counts, jnp.square(unit - mean))
    variance = collectives.mean(squares / len(unit))
    return jnp.sqrt(variance).mean() * math.sqrt(unit.shape[-1])


def by_group(net: Any, views: Tree, names: Sequence[str] = ("global", "local")) -> list[jax.Array]:
    """The features float32[B, V, D] of each group of views, which are computed together.

    Views of one size share the backbone's batch statistics, as in the authors' programs with
    multi-crop. Their heads take the features of all views together.

    Args:
      net: a `ssljax.models.network.Network`.
      views: from `ViewMethod.inputs`; an array is the group `global`.
      names: the groups to compute, if they are there.
    """
    groups = views if isinstance(views, Mapping) else {"global": views}
    first, found = 0, []
    for name in names:
        if name in groups:
            found.append(net.backbone(groups[name], first))
            first += groups[name].shape[1]
    return found


def of_batch(values: Mapping[str, jax.Array], count: int) -> Metrics:
    """Metrics of a whole batch, for each of its examples."""
    ones = jnp.ones(count)
    return {name: BatchMetric(value * ones, ones) for name, value in values.items()}


def each_view(net: Any, views: jax.Array, heads: Sequence[str]) -> dict[str, jax.Array]:
    """The outputs of heads, each on those of the one before, for one view after the other.

    Every view is normalised with its own batch statistics, as in the authors' programs of most
    methods.

    Args:
      net: a `ssljax.models.network.Network`.
      views: float32[B, V, S, S, 3].
      heads: `projector` and perhaps `predictor`.

    Returns:
      `projections` and perhaps `predictions`, float32[B, V, D].
    """
    found: dict[str, list[jax.Array]] = {}
    for number in range(views.shape[1]):
        x = net.backbone(views[:, number], number)
        for head, name in zip(heads, ("projections", "predictions"), strict=False):
            x = getattr(net, head)(x)
            found.setdefault(name, []).append(x)
    return {name: jnp.stack(parts, axis=1) for name, parts in found.items()}
