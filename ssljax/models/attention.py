"""The attention of a block of a vision transformer, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.models.layer_norm import EPSILON


def weights(block: Mapping[str, Any], tokens: jax.Array, heads: int) -> jax.Array:
    """How much each token attends to each other one.

    Args:
      block: its parameters, see `ssljax.models.transformer.Block`.
      tokens: [B, T, D], the block's input.
      heads: of the attention.

    Returns:
      float32[B, heads, T, T]; the last axis sums to 1.
    """
    batch, count, channels = tokens.shape
    x = jax.nn.standardize(tokens.astype(jnp.float32), axis=-1, epsilon=EPSILON)
    x = x * block["norm1"]["scale"] + block["norm1"]["bias"]
    qkv = x @ block["qkv"]["kernel"] + block["qkv"]["bias"]
    query, key, _ = jnp.moveaxis(qkv.reshape(batch, count, 3, heads, -1), 2, 0)
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key) / (channels // heads) ** 0.5
    return jax.nn.softmax(scores, axis=-1)
