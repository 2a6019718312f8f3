"""Contrastive losses over the batch of all devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

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
    own = own_places(count * views)
    positive = own ^ 1  # the views of an image are next to each other
    logits = jnp.matmul(anchors, others.T, precision="highest") / temperature
    logits = jnp.where(jnp.arange(len(others)) == own[:, None], -jnp.inf, logits)
    of_positive = jnp.take_along_axis(logits, positive[:, None], axis=1)[:, 0]
    losses = jax.nn.logsumexp(logits, axis=1) - of_positive
    found = (logits.argmax(axis=1) == positive).astype(jnp.float32)
    return losses.reshape(count, views).mean(axis=1), found.reshape(count, views).mean(axis=1)


def info_nce(
    queries: jax.Array, keys: jax.Array, positives: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
    """The cross entropy of finding each query's key among all keys by their similarity.

    Source: van den Oord et al. (2018), "Representation Learning with Contrastive Predictive
    Coding", equation 4, with cosine similarities.

    Args:
      queries: float32[b, D], of length 1.
      keys: float32[N, D], of length 1.
      positives: int32[b], the place of each query's key.
      temperature: divides the similarities.

    Returns:
      float32[b], in nats, and float32[b], 1 where the positive is the most similar key.
    """
    logits = jnp.matmul(queries, keys.T, precision="highest") / temperature
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, positives)
    return losses, (logits.argmax(axis=1) == positives).astype(jnp.float32)


def own_places(count: int) -> jax.Array:
    """int32[count]: the places of this device's examples in the batch of all devices."""
    return collectives.device_index() * count + jnp.arange(count)


def normalize(embeddings: jax.Array) -> jax.Array:
    """float32[…, D] of length 1; the gradient is finite also for zeros."""
    embeddings = embeddings.astype(jnp.float32)
    squares = jnp.sum(jnp.square(embeddings), axis=-1, keepdims=True)
    return embeddings * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
