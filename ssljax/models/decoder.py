"""The decoder of masked autoencoders."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import positions
from ssljax.models.backbone import Part
from ssljax.models.layer_norm import LayerNorm
from ssljax.models.transformer import blocks, dense


class MaskedDecoder(Part):
    """Predicts all patches of a square image from the tokens of some of them.

    The other patches get a mask token. All have fixed positions.

    Source: He et al. (2022), "Masked Autoencoders Are Scalable Vision Learners", section 3, "MAE
    decoder".

    Attributes:
      channels: of a token; a multiple of 4.
      depth: blocks.
      heads: of the attention; they divide the channels.
      kept: K, the patches whose tokens are given.
      outputs: for each patch.
    """

    channels: int = 512
    depth: int = 8
    heads: int = 16
    kept: int = 1
    outputs: int = 1

    @nn.compact
    def __call__(self, tokens: jax.Array, places: jax.Array) -> jax.Array:
        """Decodes.

        Args:
          tokens: [B, P + K, D], as `Backbone.tokens` returns them.
          places: int32[B, N], for each patch of the image which of the K tokens is its own; from K
            on, it has none.

        Returns:
          float32[B, N, outputs].
        """
        prefix = tokens.shape[1] - self.kept
        x = self._dense(tokens, self.channels, "embed")
        mask_token = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, self.channels))
        before, seen = x[:, :prefix], x[:, prefix:]
        missing = (len(x), places.shape[1] - seen.shape[1], self.channels)
        # Broadcast before it is rounded, so that its gradient is summed in float32.
        every = [seen, jnp.broadcast_to(mask_token, missing).astype(x.dtype)]
        patches = jnp.take_along_axis(jnp.concatenate(every, axis=1), places[..., None], axis=1)
        side = math.isqrt(places.shape[1])
        table = positions.sincos(side, side, self.channels, prefix)
        x = jnp.concatenate([before, patches], axis=1) + jnp.asarray(table, x.dtype)
        x, _ = blocks(
            x,
            None,
            depth=self.depth,
            heads=self.heads,
            initializer=self.initializer,
            dtype=self.dtype,
            remat=self.remat,
        )
        x = LayerNorm(self.dtype, name="norm")(x[:, prefix:])
        return self._dense(x, self.outputs, "pred").astype(jnp.float32)

    def _dense(self, x: jax.Array, features: int, name: str) -> jax.Array:
        return dense(x, features, name, initializer=self.initializer, dtype=self.dtype)
