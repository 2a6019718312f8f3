"""iBOT: DINO, and the teacher's distribution over prototypes for masked patches.

Source: Zhou et al. (2022), "iBOT: Image BERT Pre-Training with Online Tokenizer".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ssljax.methods.contrast import normalize
from ssljax.methods.dino import DINO
from ssljax.methods.method import Batch, Context, Metrics, Tree
from ssljax.models.heads import MaskToken
from ssljax.settings.errors import InputError
from ssljax.settings.options import option
from ssljax.views.block_masks import block_mask
from ssljax.views.keys import MASK, fold_in


@dataclasses.dataclass(frozen=True, kw_only=True)
class IBOT(DINO):
    """The student sees the global views with masked patches, the teacher sees them whole."""

    prototypes: int = option(8192, "outputs of the head", above=1, at_most=1_000_000)
    shared_head: bool = option(True, "class tokens and patches have the same prototypes")
    teacher_patch_temperature: float = option(
        0.07, "of the teacher for patches, after the warm-up", above=0
    )
    first_teacher_patch_temperature: float = option(
        0.04, "of the teacher for patches, at first", above=0
    )
    mask_probability: float = option(
        0.5, "the share of the global views with masked patches", above=0, at_most=1
    )
    mask_ratio: float = option(0.3, "the share of their patches that are masked", above=0, below=1)
    mask_ratio_var: float = option(0.2, "it varies by up to so much in both directions", at_least=0)
    views: str = option("ibot", "recipe of the views, see docs/views.md")

    needs_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        most = min(self.mask_ratio, 1 - self.mask_ratio)
        if self.mask_ratio_var > most + 1e-9:  # 1 - 0.8 is a little less than 0.2
            raise InputError(
                f"method.mask_ratio_var must be <= {most:g}, so that the share of masked patches "
                f"around method.mask_ratio={self.mask_ratio:g} is from 0 to 1; got "
                f"{self.mask_ratio_var:g}"
            )

    @property
    def grid(self) -> int:
        """The number of patches along a side of a global view."""
        return self.image_size // self.data.patch

    def heads(self) -> Mapping[str, Callable[..., Any]]:
        """DINO's, the token of masked patches, and perhaps prototypes of patches."""
        heads = {**super().heads(), "mask_token": MaskToken}
        return heads if self.shared_head else heads | {"patch_prototypes": heads["prototypes"]}

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """The views `global`, perhaps `local`, and `masked` bool[B, 2, N] of the global ones."""
        views = super().inputs(batch, keys, train)
        groups = views if isinstance(views, Mapping) else {"global": views}
        each = fold_in(fold_in(keys, MASK)[:, None], jnp.arange(2))
        return {**groups, "masked": jax.vmap(jax.vmap(self._mask))(each)}

    def _mask(self, key: jax.Array) -> jax.Array:
        """bool[N]: the masked patches of a view, perhaps none."""
        key, own = jax.random.split(key)
        any_masked, share = jax.random.uniform(own, (2,))
        ratio = self.mask_ratio + (2 * share - 1) * self.mask_ratio_var
        ratio = jnp.where(any_masked < self.mask_probability, ratio, 0)
        return block_mask(key, ratio, self.grid)

    def outputs(self, net: Any, inputs: Tree) -> Tree:
        """See `_scores`."""
        mask_token = net.mask_token(net.token_channels)
        tokens = net.tokens(inputs["global"], masked=inputs["masked"], mask_token=mask_token)
        local = net.tokens(inputs["local"], view=2) if "local" in inputs else None
        return self._scores(net, tokens, local)

    def targets(self, net: Any, inputs: Tree) -> Tree:
        """The teacher's `_scores` of the global views."""
        return self._scores(net, net.tokens(inputs["global"]))

    def _scores(self, net: Any, tokens: jax.Array, local: jax.Array | None = None) -> Tree:
        """What the heads make of the class tokens of V views, and of the patches of the global two.

        Returns:
          `projections` float32[B, 2, D] and `scores` float32[B, V, K] of the class tokens, and
          `patch_scores` float32[B, 2, N, K].
        """
        patches = self.grid**2
        if tokens.shape[2] == patches:
            raise InputError("model.class_token must be true: ibot compares class tokens, too")
        classes = tokens[:, :, 0]
        if local is not None:
            classes = jnp.concatenate([classes, local[:, :, 0]], axis=1)
        batch, views, channels = classes.shape
        # The projector takes all together, for its batch statistics, if it has them.
        every = [classes, tokens[:, :, 1:].reshape(batch, 2 * patches, channels)]
        embeddings = normalize(net.projector(jnp.concatenate(every, axis=1)))
        of_patches = embeddings[:, views:].reshape(batch, 2, patches, -1)
        patch_prototypes = net.prototypes if self.shared_head else net.patch_prototypes
        return {
            "projections": embeddings[:, :2],
            "scores": net.prototypes(embeddings[:, :views]),
            "patch_scores": patch_prototypes(of_patches),
        }

    def first_memory(self) -> Tree:
        """`centre` and `patch_centre`, float32[K]."""
        return {**super().first_memory(), "patch_centre": jnp.zeros(self.prototypes)}

    def remember(self, outputs: Tree, context: Context) -> Tree:
        """Both centres follow the mean of the teacher's scores, that of all patches."""
        centre = context.memory["patch_centre"]
        return {
            **super().remember(outputs, _of_classes(context)),
            "patch_centre": self.moved(centre, context.targets["patch_scores"]),
        }

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: section 3, DINO's loss and the one of masked patches, in nats."""
        return super().loss(outputs, _of_classes(context)) + self._patch_loss(outputs, context)

    def _patch_loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: the mean over the two views, for each the mean over its masked patches.

        It is 0 for a view without masked patches, which counts all the same.
        """
        temperature = self.warmed_up(
            self.first_teacher_patch_temperature, self.teacher_patch_temperature, context.progress
        )
        scores = context.targets["patch_scores"] - context.memory["patch_centre"]
        wanted = jax.nn.softmax(scores / temperature)
        logarithms = jax.nn.log_softmax(outputs["patch_scores"] / self.temperature)
        masked = context.inputs["masked"]
        crossed = jnp.where(masked, -jnp.sum(wanted * logarithms, axis=-1), 0)
        return jnp.mean(crossed.sum(axis=-1) / jnp.maximum(masked.sum(axis=-1), 1), axis=-1)

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """DINO's, and patch_loss: the part of the loss that masked patches have."""
        losses = self._patch_loss(outputs, context)
        return {
            **super().metrics(outputs, _of_classes(context)),
            "patch_loss": (losses, jnp.ones_like(losses)),
        }


def _of_classes(context: Context) -> Context:
    """What DINO compares: the class tokens."""
    return context._replace(targets=context.targets["scores"])
