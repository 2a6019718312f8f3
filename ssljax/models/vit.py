"""Vision transformers as timm has them, in Flax linen.

Source: Dosovitskiy et al. (2021), "An Image Is Worth 16x16 Words: Transformers for Image
Recognition at Scale"; the smaller ones are those of Touvron et al. (2021), "Training Data-Efficient
Image Transformers & Distillation through Attention".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import attention
from ssljax.models import positions as tables
from ssljax.models.backbone import Backbone
from ssljax.models.initializers import INITIALIZERS
from ssljax.models.layer_norm import LayerNorm
from ssljax.models.patches import PatchEmbed, patchify
from ssljax.models.paths import STACKED
from ssljax.models.transformer import blocks
from ssljax.settings.errors import InputError
from ssljax.settings.options import option


class ViT(Backbone):
    """Patches of an image become tokens, which equal blocks compute with.

    Attributes:
      channels: of a token, with width 1.
    """

    patch: int = option(16, "side of a patch, in pixels", at_least=4, at_most=16)
    width: float = option(1.0, "multiplies the channels of every layer", above=0, at_most=16)
    depth: int = option(12, "blocks", at_least=1, at_most=100)
    heads: int = option(12, "of the attention", at_least=1, at_most=128)
    class_token: bool = option(True, "there is a token besides those of the patches")
    pool: str = option(
        "token",
        "features are the class token, normalised, or the mean over the patches, then normalised",
        choices=("token", "avg"),
    )
    positions: str = option(
        "learned",
        "`learned`, or `sincos`: fixed sines and cosines of row and column",
        choices=("learned", "sincos"),
    )
    drop_path: float = option(
        0.0, "the rate at which the last block is left out for an image; others less",
        at_least=0, below=1,
    )  # fmt: skip
    freeze_patch_embed: bool = option(
        False, "the projection of patches is not trained, as MoCo v3 does for stable training"
    )
    initializer: str = option(
        "xavier",
        "of new weights; normal has a standard deviation of 0.02, as timm and DINO have it",
        choices=INITIALIZERS,
    )

    channels: ClassVar[int]
    smallest_image: ClassVar[int] = 8
    without_ynnpack: ClassVar[bool] = True
    loops_over_blocks: ClassVar[bool] = True

    @classmethod
    def channels_of(cls, width: float) -> int:
        """The channels of a token."""
        return max(1, round(cls.channels * width))

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Heads divide the channels, sines need a multiple of 4, pooling something to pool.

        Raises:
          InputError: they do not.
        """
        channels = cls.channels_of(options["width"])
        if channels % options["heads"]:
            raise InputError(
                f"model.heads: {options['heads']} heads do not divide the {channels} channels "
                f"({cls.channels} × model.width)"
            )
        if options["positions"] == "sincos" and channels % 4:
            raise InputError(
                "model.positions: sincos needs a multiple of 4 channels, but there are "
                f"{channels} ({cls.channels} × model.width)"
            )
        if options["pool"] == "token" and not options["class_token"]:
            raise InputError("model.pool must be 'avg' if model.class_token is false, got 'token'")

    @classmethod
    def patch_side(cls, options: Mapping[str, Any]) -> int:
        """`patch`."""
        return int(options["patch"])

    @classmethod
    def layer_order(cls, options: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        """The patches with class token and positions, then the blocks."""
        return ("patch_embed", "cls_token", tables.NAME), (STACKED,)

    @classmethod
    def frozen(cls, options: Mapping[str, Any]) -> str:
        """The projection of patches, if it is frozen; so weight decay does not change it."""
        return "backbone/patch_embed" if options["freeze_patch_embed"] else ""

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """float32[B, H, W, 3] to [B, D]; see `Backbone`."""
        return self._pooled(self._encode(images, keys))

    def layers(self, images: jax.Array, keys: jax.Array | None = None) -> dict[str, jax.Array]:
        """`block1` to `block12`: [B, H', W', D], without the class token; `pool`: [B, D]."""
        encoded = self._encode(images, keys, collect=True)
        rows, columns = images.shape[1] // self.patch, images.shape[2] // self.patch
        assert encoded.blocks is not None
        patches = encoded.blocks[:, :, self._prefix :]
        maps = patches.reshape(self.depth, len(images), rows, columns, -1)
        named = {f"block{number}": output for number, output in enumerate(maps, start=1)}
        return {**named, "pool": self._pooled(encoded)}

    def tokens(
        self,
        images: jax.Array,
        keep: jax.Array | None = None,
        keys: jax.Array | None = None,
        masked: jax.Array | None = None,
        mask_token: jax.Array | None = None,
    ) -> jax.Array:
        """[B, P + N, D] or, of kept patches, [B, P + K, D]; see `Backbone`.

        The class token comes first if there is one (P = 1): MAE and iBOT need it, I-JEPA has none.
        """
        encoded = self._encode(images, keys, False, keep, masked, mask_token)
        return encoded.norm(encoded.tokens)

    def attention(self, images: jax.Array) -> jax.Array:
        """float32[B, H', W']: the attention to each patch in the last block, mean over the heads.

        It is that of the class token, or the mean over all patches if there is none. The backbone
        must have two blocks or more.
        """
        rows, columns = images.shape[1] // self.patch, images.shape[2] // self.patch
        encoded = self._encode(images, None, collect=True)
        assert encoded.blocks is not None
        last = jax.tree.map(lambda leaf: leaf[-1], self.variables["params"][STACKED])
        found = attention.weights(last, encoded.blocks[-2], self.heads).mean(axis=1)
        whose = found[:, 0, 1:] if self.class_token else found.mean(axis=1)
        return whose.reshape(-1, rows, columns)

    @property
    def token_channels(self) -> int:
        """D."""
        return self.channels_of(self.width)

    @property
    def _prefix(self) -> int:
        return int(self.class_token)

    def _pooled(self, encoded: Encoded) -> jax.Array:
        """The normalisation comes last in both cases; timm calls it `norm` or `fc_norm`."""
        if self.pool == "token":
            return encoded.norm(encoded.tokens[:, 0])
        mean = encoded.tokens[:, self._prefix :].mean(axis=1, dtype=jnp.float32)
        return encoded.norm(mean)

    @nn.compact
    def _encode(
        self,
        images: jax.Array,
        keys: jax.Array | None,
        collect: bool = False,
        keep: jax.Array | None = None,
        masked: jax.Array | None = None,
        mask_token: jax.Array | None = None,
    ) -> Encoded:
        channels, prefix = self.token_channels, self._prefix
        rows, columns = images.shape[1] // self.patch, images.shape[2] // self.patch
        # What is broadcast stays in float32, so that its gradient is summed in float32.
        table = self._table(rows, columns, channels)
        patches, places = patchify(images, self.patch), table[:, prefix:]
        if keep is not None:  # before the projection, so that only these are projected
            patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
            places = places[0][keep]
        x = PatchEmbed(self.patch, channels, self.initializer, self.dtype, name="patch_embed")(
            patches
        )
        if self.freeze_patch_embed:
            x = jax.lax.stop_gradient(x)
        if masked is not None and mask_token is not None:
            x = jnp.where(masked[..., None], mask_token, x.astype(jnp.float32))
        x = (x.astype(jnp.float32) + places).astype(self.dtype)
        if prefix:
            token = self.param("cls_token", nn.initializers.normal(0.02), (1, 1, channels))
            first = jnp.broadcast_to(token + table[:, :1], (len(x), 1, channels))
            x = jnp.concatenate([first.astype(self.dtype), x], axis=1)
        x, outputs = blocks(
            x,
            keys,
            depth=self.depth,
            heads=self.heads,
            initializer=self.initializer,
            dtype=self.dtype,
            drop_path=self.drop_path,
            remat=self.remat,
            collect=collect,
        )
        return Encoded(x, outputs, LayerNorm(self.dtype, name="norm"))

    def _table(self, rows: int, columns: int, channels: int) -> jax.Array:
        """The positions, float32[1, P + N, D]."""
        if self.positions == "sincos":
            return jnp.asarray(tables.sincos(rows, columns, channels, self._prefix))
        # The first images decide how many there are; those of other sizes get interpolated ones.
        learned: jax.Array
        if self.has_variable("params", tables.NAME):
            learned = self.get_variable("params", tables.NAME)
        else:
            shape = (1, self._prefix + rows * columns, channels)
            learned = self.param(tables.NAME, nn.initializers.normal(0.02), shape)
        return tables.resample(learned, rows, columns, self._prefix)


class Encoded(NamedTuple):
    """What the blocks compute.

    Attributes:
      tokens: [B, P + N, D], before the last normalisation.
      blocks: [depth, B, P + N, D], the outputs of all blocks, if they were asked for.
      norm: the last normalisation.
    """

    tokens: jax.Array
    blocks: jax.Array | None
    norm: LayerNorm


class ViTTiny(ViT):
    """192 channels, 3 heads."""

    heads: int = option(3, "of the attention", at_least=1, at_most=128)

    channels = 192


class ViTSmall(ViT):
    """384 channels, 6 heads; MoCo v3's has 12 heads."""

    heads: int = option(6, "of the attention; MoCo v3 has 12", at_least=1, at_most=128)

    channels = 384


class ViTBase(ViT):
    """768 channels, 12 heads."""

    channels = 768
