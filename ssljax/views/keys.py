"""The random keys of a batch: one for each record, on the devices.

A key depends only on (seed, epoch, record, stream), or on (seed, record, stream) when evaluating.
The place in the batch, the batch size and the number of devices do not matter, and what was drawn
for a record can be drawn again for it alone.
"""

from __future__ import annotations

import jax

# Streams: what a key is used for. Two uses need two streams.
DROPOUT = 0
VIEWS = 1
SHUFFLE = 2
MIXING = 3
MASK = 4
LATER_VIEWS = 2**16  # + the number of the view, for dropout


def record_keys(seed: int, epoch: jax.Array | int | None, record: jax.Array) -> jax.Array:
    """One key for each record.

    Args:
      seed: of the run.
      epoch: int32[], from 0; None when evaluating.
      record: int32[B].

    Returns:
      key[B].
    """
    key = jax.random.fold_in(jax.random.key(seed), 0 if epoch is None else epoch + 1)
    return fold_in(key, record)


def fold_in(keys: jax.Array, numbers: jax.Array | int) -> jax.Array:
    """Folds numbers into keys, with broadcasting: key[…] and int32[…] to key[…]."""
    keys, numbers = jax.numpy.broadcast_arrays(keys, jax.numpy.asarray(numbers))
    flat = jax.vmap(jax.random.fold_in)(keys.reshape(-1), numbers.reshape(-1))
    return flat.reshape(keys.shape)
