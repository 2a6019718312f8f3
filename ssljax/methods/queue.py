"""Queues of embeddings of earlier batches."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ssljax.settings.errors import InputError


def check_queue(length: int, batch_size: int) -> None:
    """Checks that a queue, `config.method.queue`, holds whole batches.

    Raises:
      InputError: it does not; the nearest length that does is given.
    """
    if length % batch_size:
        nearest = max(1, round(length / batch_size)) * batch_size
        raise InputError(
            f"method.queue must be a multiple of batch_size={batch_size}, so that it holds whole "
            f"batches; the nearest to {length} is {nearest}"
        )


def push(queue: jax.Array, new: jax.Array) -> jax.Array:
    """The queue after new embeddings have taken the place of the oldest.

    Args:
      queue: float32[…, L, D], the newest first.
      new: float32[…, B, D], with B <= L.

    Returns:
      float32[…, L, D].
    """
    return jnp.concatenate([new, queue], axis=-2)[..., : queue.shape[-2], :]
