"""The grain pipeline: from records to batches of uint8 pictures and the task's draws.

Every random draw hangs on (seed, epoch, record) alone, or on (seed, record) when evaluating, and
every position is computed from the step; so threads, processes and restarts change nothing.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax

from ssljax.data import reader_processes
from ssljax.data.order import Order
from ssljax.data.pictures import CachedPictures, Pictures
from ssljax.data.read_batch import HostBatch, ReadBatch
from ssljax.tasks.task import Task


def batches(
    pictures: Pictures,
    task: Task,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    train: bool,
    random_crop: bool = False,
    threads: int = 2,
    workers: int = 0,
    start_step: int = 0,
) -> Iterator[HostBatch]:
    """This process's part of every global batch from start_step on.

    Args:
      batch_size: the global batch; each process gets an equal share of it.
      train: shuffle, and draw anew every epoch; else listing order and one draw for all epochs.
      random_crop: cut the square at a random place instead of the centre.
      threads: readers; 0 reads in the caller's thread.
      workers: processes that read in place of the threads, unless the pictures are kept in memory:
        each would keep them all.

    Yields:
      uint8[b, S, S, 3] `image`, int32[b] `label` and `record`, bool[b] `mask`, and the task's
      draws stacked, with b = batch_size / processes. Each epoch ends with a padded batch.

    Raises:
      InputError: a record that cannot be decoded.
      TrainingFailed: a reader process has died.
    """
    order = Order(
        num_records=len(pictures),
        batch_size=batch_size,
        epochs=epochs,
        shuffle=train,
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    read = ReadBatch(pictures, task, seed, train, random_crop)
    if workers and not isinstance(pictures, CachedPictures):
        positions = map(order.__getitem__, range(start_step, len(order)))
        return reader_processes.shared(workers).batches(read, order.local_batch_size, positions)
    steps = grain.MapDataset.source(order).map(read)
    # Each thread works on a batch, and one more waits for it.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(steps[start_step:].to_iter_dataset(options))


class DevicePrefetch:
    """Moves batches to the devices ahead of their use, and times the waiting for them.

    Attributes:
      waited: seconds spent waiting for the host's pipeline so far.
    """

    def __init__(self, host: Iterator[HostBatch], put: Callable[[HostBatch], Any], depth: int = 2):
        """Transfers are asynchronous: up to depth batches are on their way at any time."""
        self._host, self._put, self._depth = host, put, depth
        self._ready: collections.deque[Any] = collections.deque()
        self.waited = 0.0

    def __iter__(self) -> DevicePrefetch:
        return self

    def __next__(self) -> Any:
        while len(self._ready) < self._depth:
            start = time.perf_counter()
            batch = next(self._host, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                break
            self._ready.append(self._put(batch))
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()
