"""Contrastive losses over the batch of all devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ssljax.models import collectives


def nt_xent(embeddings: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
    """The normalised temperature-scaled cross entropy of pairs of views.

    Each view is an anchor. Its positive is the other view of its image, and all other views of the
    batch are negatives.

    Source: Chen et al. (2020), "A Simple Framework for Contrastive Learning of Visual
    Representations", equation 1 and algorithm 1.

    Args:
      embeddings: [b, 2, D], this device's part of the batch.
      temperature: divides the cosine similarities.

    Returns:
      float32[b], the mean over the two anchors of an image in nats, and float32[b], the share of
      them whose positive is the most similar view of the batch.
    """
    embeddings = normalize(embeddings)
    count, views, width = embeddings.shape
    anchors = embeddings.reshape(-1, width)
    others = collectives.gather(embeddings).reshape(-1, width)
    own = collectives.device_index() * count * views + jnp.arange(count * views)
    positive = own ^ 1  # the views of an image are next to each other
    logits = anchors @ others.T / temperature
    logits = jnp.where(jnp.arange(len(others)) == own[:, None], -jnp.inf, logits)
    of_positive = jnp.take_along_axis(logits, positive[:, None], axis=1)[:, 0]
    losses = jax.nn.logsumexp(logits, axis=1) - of_positive
    found = (logits.argmax(axis=1) == positive).astype(jnp.float32)
    return losses.reshape(count, views).mean(axis=1), found.reshape(count, views).mean(axis=1)


def normalize(embeddings: jax.Array) -> jax.Array:
    """float32[…, D] of length 1; the gradient is finite also for zeros."""
    embeddings = embeddings.astype(jnp.float32)
    squares = jnp.sum(jnp.square(embeddings), axis=-1, keepdims=True)
    return embeddings * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
