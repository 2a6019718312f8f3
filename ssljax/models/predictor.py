"""The predictor of joint-embedding predictive architectures."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import positions
from ssljax.models.backbone import Part
from ssljax.models.layer_norm import LayerNorm
from ssljax.models.transformer import blocks, dense


class Predictor(Part):
    """Predicts the tokens of blocks of patches from those of other patches: a narrow transformer.

    It computes each block by itself. The patches to predict are mask tokens with fixed positions.

    Source: Assran et al. (2023), "Self-Supervised Learning from Images with a Joint-Embedding
    Predictive Architecture", section 3 and appendix A.1.

    Attributes:
      channels: of a token within; a multiple of 4.
      depth: blocks of the transformer.
      heads: of the attention; they divide the channels.
      side: of the grid of patches.
    """

    channels: int = 384
    depth: int = 6
    heads: int = 12
    side: int = 1

    @nn.compact
    def __call__(
        self, tokens: jax.Array, keep: jax.Array, places: jax.Array, counted: jax.Array
    ) -> jax.Array:
        """Predicts.

        Args:
          tokens: [B, K, D], as `Backbone.tokens` returns them; without class token.
          keep: int32[B, K], the places of their patches.
          places: int32[B, M, T], those of the patches to predict, in M blocks.
          counted: bool[B, M, T]; False where a block has fewer patches. Their tokens are not seen
            by the others.

        Returns:
          float32[B, M, T, D].
        """
        batch, kept, outputs = tokens.shape
        table = jnp.asarray(positions.sincos(self.side, self.side, self.channels)[0])
        context = self._dense(tokens, self.channels, "embed") + table.astype(self.dtype)[keep]
        mask_token = self.param("mask_token", nn.initializers.normal(0.02), (self.channels,))
        # Rounded after they are broadcast, so that their gradients are summed in float32.
        masked = (mask_token + table[places]).astype(self.dtype)
        shape = (batch, places.shape[1], kept, self.channels)
        context = jnp.broadcast_to(context.astype(jnp.float32)[:, None], shape).astype(self.dtype)
        seen = jnp.concatenate([jnp.ones(context.shape[:-1], bool), counted], axis=2)
        x = jnp.concatenate([context, masked], axis=2)
        x, _ = blocks(
            x.reshape(-1, *x.shape[2:]),
            None,
            depth=self.depth,
            heads=self.heads,
            initializer=self.initializer,
            dtype=self.dtype,
            remat=self.remat,
            seen=seen.reshape(-1, seen.shape[2]),
        )
        x = LayerNorm(self.dtype, name="norm")(x[:, kept:])
        x = self._dense(x, outputs, "pred").astype(jnp.float32)
        return x.reshape(*places.shape, outputs)

    def _dense(self, x: jax.Array, features: int, name: str) -> jax.Array:
        return dense(x, features, name, initializer=self.initializer, dtype=self.dtype)
