"""The blocks of a vision transformer, as timm has them.

Source: Dosovitskiy et al. (2021), "An Image Is Worth 16x16 Words: Transformers for Image
Recognition at Scale".
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import dense_product, float32_bias
from ssljax.models.backbone import block_output
from ssljax.models.gelu import gelu
from ssljax.models.initializers import initializers
from ssljax.models.layer_norm import LayerNorm
from ssljax.models.paths import STACKED
from ssljax.views.keys import fold_in

_HIDDEN = 4  # units of the MLP, as a multiple of the channels


def blocks(
    x: jax.Array,
    keys: jax.Array | None,
    *,
    depth: int,
    heads: int,
    initializer: str,
    dtype: Any,
    drop_path: float = 0.0,
    remat: bool = False,
    collect: bool = False,
    seen: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Equal blocks, one after the other; within a compact method, which gets the module `blocks`.

    They are one block in a loop (`nn.scan`), whose parameters are stacked: [depth, …]. So one block
    is compiled. On a CPU that takes about half of the time of separate blocks, and a step takes a
    tenth longer (docs/performance.md). There is no option to unroll the loop.

    Args:
      x: [B, T, D].
      keys: see `Backbone.__call__`.
      depth: the number of blocks.
      heads: of the attention; they divide D.
      initializer: see `ssljax.models.initializers`.
      dtype: computed in.
      drop_path: rate of the last block, see `Block`. It rises linearly from 0 at the first one.
      remat: keep only the inputs of the blocks for the backward pass.
      collect: return the output of every block.
      seen: bool[B, T], the tokens that others attend to; None: all.

    Returns:
      [B, T, D], and [depth, B, T, D] or None.
    """
    # `jax.checkpoint` around the loop would compute the loop again, and keep all that it computes.
    block = nn.remat(Block, prevent_cse=False) if remat else Block
    scanned = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, 0, nn.broadcast, nn.broadcast),
        length=depth,
    )
    drops = bool(drop_path) and keys is not None
    stacked = scanned(heads, drops, initializer, dtype, collect, name=STACKED)
    rates = jnp.linspace(0.0, drop_path, depth)
    result: tuple[jax.Array, jax.Array | None] = stacked(
        x, jnp.arange(depth), rates, keys if drops else None, seen
    )
    return result


class Block(nn.Module):
    """Attention and an MLP, each after layer normalisation and added to its input.

    When trained, each of the two is left out for a random part of the images, and made larger for
    the others (Huang et al., 2016, "Deep Networks with Stochastic Depth").

    Attributes:
      heads: of the attention.
      drops: there are keys, and a rate above 0.
      initializer: see `blocks`.
      dtype: see `blocks`.
      collect: see `blocks`.
    """

    heads: int
    drops: bool
    initializer: str
    dtype: Any
    collect: bool

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        number: jax.Array,
        rate: jax.Array,
        keys: jax.Array | None,
        seen: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """[B, T, D], the block's number and its rate of dropped paths; the output once or twice."""
        y = self._attention(LayerNorm(self.dtype, name="norm1")(x), seen)
        x += self._drop(y, 2 * number, rate, keys)
        y = LayerNorm(self.dtype, name="norm2")(x)
        y = gelu(self._dense(y, _HIDDEN * x.shape[-1], "fc1"))
        x += self._drop(self._dense(y, x.shape[-1], "fc2"), 2 * number + 1, rate, keys)
        x = block_output(x)
        return x, x if self.collect else None

    def _attention(self, x: jax.Array, seen: jax.Array | None) -> jax.Array:
        """Section 3 of Vaswani et al. (2017); the softmax is in float32."""
        batch, tokens, channels = x.shape
        qkv = self._dense(x, 3 * channels, "qkv")
        split = (batch, tokens, self.heads, channels // self.heads)
        query, key, value = (part.reshape(split) for part in jnp.split(qkv, 3, axis=-1))
        mask = None if seen is None else seen[:, None, None]
        mixed = jax.nn.dot_product_attention(query, key, value, mask=mask)
        return self._dense(mixed.reshape(x.shape), channels, "proj")

    def _dense(self, x: jax.Array, features: int, name: str) -> jax.Array:
        return dense(x, features, name, initializer=self.initializer, dtype=self.dtype)

    def _drop(
        self, x: jax.Array, draw: jax.Array, rate: jax.Array, keys: jax.Array | None
    ) -> jax.Array:
        if not self.drops or keys is None:
            return x
        # One key per image, so that the draw does not depend on the devices.
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(fold_in(keys, draw))
        return jnp.where(keep[:, None, None], x / (1 - rate), 0).astype(x.dtype)


def dense(x: jax.Array, features: int, name: str, *, initializer: str, dtype: Any) -> jax.Array:
    """A dense layer; within a compact method, which gets the module `name`."""
    kernel_init, bias_init = initializers(initializer, x.shape[-1])
    layer = nn.Dense(
        features, dtype=dtype, kernel_init=kernel_init, bias_init=bias_init,
        dot_general=dense_product.dot_general, promote_dtype=float32_bias.promote_dtype, name=name,
    )  # fmt: skip
    return layer(x).astype(dtype)
