"""MAE: predict the pixels of masked patches from the visible ones.

Source: He et al. (2022), "Masked Autoencoders Are Scalable Vision Learners".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.methods.masked_method import MaskedMethod
from ssljax.methods.method import Batch, Context, Metrics, Tree
from ssljax.methods.tiles import paste
from ssljax.models.decoder import MaskedDecoder
from ssljax.models.patches import patchify
from ssljax.settings.errors import InputError
from ssljax.settings.options import option
from ssljax.views.keys import MASK, fold_in

_EPSILON = 1e-6  # added to the variance of a patch


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAE(MaskedMethod):
    """The backbone sees a random part of an image's patches, a small decoder predicts the others.

    When evaluating, images are centre squares, and a record has the same mask every time.
    """

    mask_ratio: float = option(0.75, "the share of the patches that are masked", above=0, below=1)
    norm_pix_loss: bool = option(
        True, "predict each patch with mean 0 and variance 1 instead of its pixels"
    )
    decoder_embed_dim: int = option(
        512, "of the decoder: channels of a token", above=0, at_most=65536
    )
    decoder_depth: int = option(8, "of the decoder: blocks", at_least=1, at_most=100)
    decoder_num_heads: int = option(16, "of the decoder: heads of the attention", at_least=1)
    views: str = option("mae", "recipe of one view, see docs/views.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        channels, heads = self.decoder_embed_dim, self.decoder_num_heads
        if channels % 4 or channels % heads:
            raise InputError(
                f"method.decoder_embed_dim must be a multiple of 4, for the positions, and of "
                f"method.decoder_num_heads={heads}, got {channels}"
            )
        if not 0 < self.kept < self.patches:
            raise InputError(
                f"method.mask_ratio: {self.mask_ratio:g} of the {self.patches} patches of an image "
                f"leaves {self.kept}; at least one must be kept, and one masked"
            )

    @property
    def kept(self) -> int:
        """The number K of those that the backbone sees."""
        return int(self.patches * (1 - self.mask_ratio))

    def heads(self) -> dict[str, functools.partial[MaskedDecoder]]:
        """A transformer that is narrower and shorter than the backbone."""
        make = functools.partial(
            MaskedDecoder,
            channels=self.decoder_embed_dim,
            depth=self.decoder_depth,
            heads=self.decoder_num_heads,
            kept=self.kept,
            outputs=3 * self.data.patch**2,
        )
        return {"decoder": make}

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """`image` float32[B, S, S, 3], and `order` int32[B, N], of which the first K are visible.

        The order is that of random numbers, as in the official code.
        """
        numbers = jax.vmap(lambda key: jax.random.uniform(key, (self.patches,)))(
            fold_in(keys, MASK)
        )
        return {"image": self.image(batch, keys, train), "order": jnp.argsort(numbers, axis=1)}

    def outputs(self, net: Any, inputs: Tree) -> jax.Array:
        """The prediction for every patch, float32[B, N, pixels]."""
        order = inputs["order"]
        tokens = net.tokens(inputs["image"], order[:, : self.kept])
        predicted: jax.Array = net.decoder(tokens, self._places(order))
        return predicted

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B]: the mean squared error over the pixels of an image's masked patches."""
        errors = jnp.mean((outputs - self.wanted(context.inputs["image"])) ** 2, axis=-1)
        masked = self._masked(context.inputs)
        return jnp.sum(jnp.where(masked, errors, 0), axis=1) / (self.patches - self.kept)

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """None: the loss says it."""
        return {}

    def wanted(self, images: jax.Array) -> jax.Array:
        """What is to be predicted for float32[B, S, S, 3] images, float32[B, N, pixels].

        The variance of a patch is the unbiased one, as in the official code.
        """
        patches = patchify(images, self.data.patch)
        mean, deviation = self._scale(patches)
        return (patches - mean) / deviation

    def _scale(self, patches: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is subtracted from the pixels of each patch, and what divides them then."""
        if not self.norm_pix_loss:
            return jnp.zeros(()), jnp.ones(())
        variance = patches.var(axis=-1, ddof=1, keepdims=True)
        return patches.mean(axis=-1, keepdims=True), jnp.sqrt(variance + _EPSILON)

    def visible(self, inputs: Tree) -> jax.Array:
        """The images with zeros in masked patches, float32[B, S, S, 3]."""
        patches = patchify(inputs["image"], self.data.patch)
        return self._whole(jnp.where(self._masked(inputs)[..., None], 0, patches))

    def filled_in(self, outputs: jax.Array, inputs: Tree) -> jax.Array:
        """The images with predicted pixels in masked patches, float32[B, S, S, 3].

        With `norm_pix_loss` these have the true mean and deviation of their patch.
        """
        patches = patchify(inputs["image"], self.data.patch)
        mean, deviation = self._scale(patches)
        predicted = outputs * deviation + mean
        return self._whole(jnp.where(self._masked(inputs)[..., None], predicted, patches))

    def _whole(self, patches: jax.Array) -> jax.Array:
        """The inverse of `patchify`."""
        batch, count, _ = patches.shape
        side = self.data.patch
        return paste(patches.reshape(batch, count, side, side, 3), self.image_size // side)

    def _masked(self, inputs: Tree) -> jax.Array:
        """bool[B, N]."""
        return self._places(inputs["order"]) >= self.kept

    @staticmethod
    def _places(order: jax.Array) -> jax.Array:
        """The place of each patch in an order: the inverse permutation."""
        return jnp.argsort(order, axis=1)
