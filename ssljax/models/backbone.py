"""The contracts of a network's parts, and the options that all backbones share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ssljax.settings.options import option

_BLOCK = "block"


@dataclasses.dataclass(frozen=True)
class BackboneOptions:
    """`config.model.*`: the options that every backbone has in addition to its own."""

    dtype: str = option(
        "auto",
        "computes in this type; auto: bfloat16 on GPU and TPU, float32 on CPU",
        choices=("auto", "float32", "bfloat16"),
    )
    remat: bool = option(
        False, "compute activations again in the backward pass: less memory, more time"
    )


class Part(nn.Module):
    """A backbone or a head.

    `ssljax.models.network.Network` sets these fields of each of its parts.

    Attributes:
      dtype: the type that is computed in; parameters are float32.
      initializer: of new weights, see `ssljax.models.initializers`.
      batch_statistics: batch normalisation uses the statistics of the batch and updates the
        running ones; otherwise it uses the running ones.
      remat: see `BackboneOptions`; a loop over blocks follows it, the rest is up to the step.
    """

    dtype: jnp.dtype = jnp.float32
    initializer: str = "pytorch"
    batch_statistics: bool = False
    remat: bool = False


class Backbone(Part):
    """What is kept after pretraining and transferred: from images to features.

    A backbone is one file with a subclass of this class, and one line in `MODELS`. Its options are
    fields made with `ssljax.settings.options.option`.

    Attributes:
      smallest_image: the least side of an image, in pixels.
      without_ynnpack: whether a training step on a CPU is faster without it, see
        `ssljax.devices.cpu_compiler`.
      loops_over_blocks: whether the backbone is a loop, which follows `remat` itself.
    """

    smallest_image: ClassVar[int]
    without_ynnpack: ClassVar[bool] = False
    loops_over_blocks: ClassVar[bool] = False

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Checks that the options fit each other.

        Args:
          options: `config.model`, complete.

        Raises:
          InputError: they do not.
        """

    @classmethod
    def patch_side(cls, options: Mapping[str, Any]) -> int:
        """The side of the patches that `tokens` computes with, in pixels; 0: it has no tokens.

        The sides of images must be multiples of it.
        """
        return 0

    @classmethod
    def layer_order(cls, options: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        """Patterns of the parameters of each layer of the backbone, from images to features.

        `optimizer.layer_decay` needs them. Parameters that no pattern matches, such as those of the
        last normalisation, belong to the head. Stacked blocks count as `depth` layers.
        """
        return ()

    @classmethod
    def frozen(cls, options: Mapping[str, Any]) -> str:
        """Patterns of parameters that the options say are not trained; empty: none."""
        return ""

    def __call__(self, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Computes features.

        Args:
          images: float32[B, H, W, 3], normalised.
          keys: one random key per image, for dropout; None runs without dropout.

        Returns:
          [B, D], in `dtype`.
        """
        raise NotImplementedError

    @property
    def token_channels(self) -> int:
        """The number D of a token's channels; only if `patch_side` is not 0."""
        raise NotImplementedError

    def layers(self, images: jax.Array, keys: jax.Array | None = None) -> dict[str, jax.Array]:
        """The outputs of all layers by name, the last of which is the backbone's output."""
        raise NotImplementedError

    def tokens(
        self,
        images: jax.Array,
        keep: jax.Array | None = None,
        keys: jax.Array | None = None,
        masked: jax.Array | None = None,
        mask_token: jax.Array | None = None,
    ) -> jax.Array:
        """Computes the normalised tokens of patches; only if `patch_side` is not 0.

        Args:
          images: float32[B, H, W, 3], normalised.
          keep: int32[B, K], the places of the patches to compute with, row by row; None takes all
            N. Those that are left out cost nothing.
          keys: see `__call__`.
          masked: bool[B, N], patches that look like `mask_token`, but have their positions; not
            together with `keep`.
          mask_token: float32[D].

        Returns:
          [B, P + K, D] or [B, P + N, D], in `dtype`: first P = 0 or 1 tokens of the image, then
          those of the patches, in the order of `keep`.
        """
        raise NotImplementedError


def block_output(x: jax.Array) -> jax.Array:
    """Marks the output of a block, which `model.remat` keeps for the backward pass."""
    return checkpoint_name(x, _BLOCK)


def keep_blocks_only() -> Callable[..., bool]:
    """The policy for `jax.checkpoint` that keeps what `block_output` has marked."""
    return jax.checkpoint_policies.save_only_these_names(_BLOCK)
