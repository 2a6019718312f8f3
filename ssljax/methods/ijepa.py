"""I-JEPA: predict the teacher's features of blocks of an image from the rest of it.

Source: Assran et al. (2023), "Self-Supervised Learning from Images with a Joint-Embedding
Predictive Architecture".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from ssljax.methods.embeddings import LEAST_STD, embedding_std, of_batch
from ssljax.methods.masked_method import MaskedMethod
from ssljax.methods.method import Batch, Context, Metrics, Tree
from ssljax.models.predictor import Predictor
from ssljax.settings.errors import InputError
from ssljax.settings.options import option
from ssljax.views.keys import MASK, fold_in
from ssljax.views.multiblock import draw_blocks, largest_block

_EPSILON = 1e-5  # added to the variance of a token


@dataclasses.dataclass(frozen=True, kw_only=True)
class IJEPA(MaskedMethod):
    """The backbone sees a part of an image's patches, a predictor the places of four blocks.

    When evaluating, images are centre squares, and a record has the same blocks every time.
    """

    targets_per_image: int = option(
        4, "blocks to predict; they may overlap", at_least=1, at_most=64
    )
    target_scale: tuple[float, ...] = option(
        (0.15, 0.2), "of a block to predict: the least and the largest share of the image"
    )
    target_aspect: tuple[float, ...] = option(
        (0.75, 1.5), "of a block to predict: the least and the largest ratio of height to width"
    )
    context_scale: tuple[float, ...] = option(
        (0.85, 1.0), "of the square that the context comes from: its share of the image"
    )
    context_patches: float = option(
        0.25, "the share of the patches that the context has, without those to predict",
        above=0, below=1,
    )  # fmt: skip
    predictor_embed_dim: int = option(
        384, "of the predictor: channels of a token", above=0, at_most=65536
    )
    predictor_depth: int = option(6, "of the predictor: blocks", at_least=1, at_most=100)
    predictor_num_heads: int = option(12, "of the predictor: heads of the attention", at_least=1)
    momentum: float = option(
        0.996, "of the teacher at first; it rises to 1 linearly", at_least=0, at_most=1
    )
    views: str = option("ijepa", "recipe of one view, see docs/views.md")

    needs_model: ClassVar[Mapping[str, Any]] = {
        "class_token": False, "pool": "avg", "positions": "sincos",
    }  # fmt: skip
    has_teacher: ClassVar[bool] = True
    uses_progress: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("target_scale", 1), ("target_aspect", 100), ("context_scale", 1)):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
                raise InputError(
                    f"method.{name} must be two numbers > 0 and <= {most}, the smaller one first, "
                    f"got {value!r}"
                )
        channels, heads = self.predictor_embed_dim, self.predictor_num_heads
        if channels % 4 or channels % heads:
            raise InputError(
                f"method.predictor_embed_dim must be a multiple of 4, for the positions, and of "
                f"method.predictor_num_heads={heads}, got {channels}"
            )
        if not self.kept:
            raise InputError(
                f"method.context_patches: {self.context_patches:g} of the {self.patches} patches "
                "of an image leaves none"
            )

    @property
    def kept(self) -> int:
        """The number K of patches that the backbone sees."""
        return int(self.patches * self.context_patches)

    def heads(self) -> dict[str, functools.partial[Predictor]]:
        """A transformer that is narrower than the backbone."""
        make = functools.partial(
            Predictor,
            channels=self.predictor_embed_dim,
            depth=self.predictor_depth,
            heads=self.predictor_num_heads,
            side=self.side,
        )
        return {"predictor": make}

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """The image and its masks, "Targets" and "Context" in section 3.

        The context is a random part of what the targets leave of a large square. If that is too
        little, patches from outside the square join it. If these do not suffice either, patches of
        targets do, which are then not to be predicted.

        Returns:
          `image` float32[B, S, S, 3]; `keep` int32[B, K], the context; `places` int32[B, M, T], the
          targets' patches, and `counted` bool[B, M, T], False where a target has fewer.
        """
        image, keys = self.image(batch, keys, train), fold_in(keys, MASK)
        targets = draw_blocks(
            fold_in(keys, 0),
            self.targets_per_image,
            self.side,
            self.target_scale,
            self.target_aspect,
        )
        square = draw_blocks(fold_in(keys, 1), 1, self.side, self.context_scale, (1, 1))[:, 0]
        numbers = jax.vmap(lambda key: jax.random.uniform(key, (self.patches,)))(fold_in(keys, 2))
        keep = jnp.argsort(numbers + ~square + 2 * targets.any(axis=1), axis=1)[:, : self.kept]
        in_context = jnp.any(keep[..., None] == jnp.arange(self.patches), axis=1)
        size = largest_block(self.side, self.target_scale, self.target_aspect)
        places = jnp.argsort(~targets, axis=2)[..., :size]
        counted = jnp.take_along_axis(targets & ~in_context[:, None], places, axis=2)
        return {"image": image, "keep": keep, "places": places, "counted": counted}

    def outputs(self, net: Any, inputs: Tree) -> jax.Array:
        """The predictions, float32[B, M, T, D]; the backbone computes with the context only."""
        keep = inputs["keep"]
        tokens = net.tokens(inputs["image"], keep)
        predicted: jax.Array = net.predictor(tokens, keep, inputs["places"], inputs["counted"])
        return predicted

    def targets(self, net: Any, inputs: Tree) -> jax.Array:
        """The teacher's tokens of the targets, float32[B, M, T, D], each normalised."""
        tokens = net.tokens(inputs["image"]).astype(jnp.float32)
        tokens -= tokens.mean(axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(tokens), axis=-1, keepdims=True)
        tokens *= jax.lax.rsqrt(variance + _EPSILON)
        return jnp.take_along_axis(tokens[:, None], inputs["places"][..., None], axis=2)

    def teacher_momentum(self, progress: jax.Array) -> jax.Array:
        """Appendix A.1."""
        return 1 - (1 - self.momentum) * (1 - progress)

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B]: the smooth L1 distance, the mean over the patches of an image's targets.

        The paper's section 3, "Loss", has the squared distance; this is the official code's.
        """
        distances = optax.huber_loss(outputs, context.targets).mean(axis=-1)
        return self._mean(distances[..., None], context)[:, 0]

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """None: the loss says it."""
        return {}

    def diagnostics(self, outputs: jax.Array, context: Context) -> Metrics:
        """embedding_std, see `embedding_std`, of the mean over an image's targets."""
        means = self._mean(context.targets, context)
        spread = embedding_std(means[:, None], context.batch["mask"])
        return of_batch({"embedding_std": spread}, len(means))

    def concerns(self, metrics: Mapping[str, float]) -> list[str]:
        """Says if the teacher's features have collapsed, and what the likely reason is."""
        spread = metrics["embedding_std"]
        if spread >= LEAST_STD:
            return []
        return [
            f"the features have collapsed: embedding_std is {spread:.3f} (1: spread evenly, 0: all "
            "equal); likely the learning rate is too high, or the teacher follows too fast "
            "(method.momentum)"
        ]

    @staticmethod
    def _mean(values: jax.Array, context: Context) -> jax.Array:
        """float32[B, M, T, C] to float32[B, C], the mean over the patches that count."""
        counted = context.inputs["counted"][..., None]
        total = jnp.sum(jnp.where(counted, values, 0), axis=(1, 2))
        return total / jnp.maximum(counted.sum(axis=(1, 2)), 1)
