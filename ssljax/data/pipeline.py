"""The grain pipeline: from records to batches of uint8 images and the method's draws.

Every random draw depends only on (seed, epoch, record), or on (seed, record) when evaluating, and
every position is computed from the step. Threads, processes and restarts therefore change nothing.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax

from ssljax.data.cache import CachedImages
from ssljax.data.image_source import ImageSource
from ssljax.data.order import Order
from ssljax.data.read_batch import Draw, HostBatch, ReadBatch
from ssljax.data.readers import reader_processes


def batches(
    images: ImageSource,
    draw: Draw,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    train: bool,
    random_crop: bool = False,
    count_repeated: bool = False,
    threads: int = 2,
    workers: int = 0,
    start_step: int = 0,
) -> Iterator[HostBatch]:
    """This process's part of every global batch from start_step on.

    Args:
      images: of the split.
      draw: what a method draws for a record, from the record's random stream.
      batch_size: the global batch; each process gets an equal share of it.
      epochs: the number of epochs.
      seed: of all draws.
      train: shuffle, and draw anew every epoch; otherwise listing order, and the same draws for all
        epochs.
      random_crop: cut the square at a random place instead of the centre, if it is cut at all.
      count_repeated: see `ssljax.data.order.Order`.
      threads: readers; 0 reads in the caller's thread.
      workers: processes that read instead of the threads. Images that are kept in memory are always
        read by threads, since each process would keep them all.
      start_step: the first step to read.

    Yields:
      uint8[b, S, S, 3] `image`, int32[b] `label` and `record`, bool[b] `mask`, and the draws
      stacked, with b = batch_size / processes. Of whole images, also int32[b] `height` and
      `width`.

    Raises:
      InputError: a record cannot be decoded.
      TrainingFailed: a reader process has died.
    """
    order = Order(
        num_records=len(images),
        batch_size=batch_size,
        epochs=epochs,
        shuffle=train,
        seed=seed,
        count_repeated=count_repeated,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    read = ReadBatch(images, draw, seed, train, random_crop)
    if workers and not isinstance(images, CachedImages):
        steps = map(order.__getitem__, range(start_step, len(order)))
        return reader_processes.shared(workers).batches(read, order.local_batch_size, steps)
    dataset = grain.MapDataset.source(order).map(read)
    # Each thread works on a batch, and one more batch waits for it.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(dataset[start_step:].to_iter_dataset(options))


class DevicePrefetch:
    """Moves batches to the devices ahead of their use, and measures the time spent waiting.

    Attributes:
      waited: seconds spent waiting for the host's pipeline so far.
    """

    def __init__(self, host: Iterator[HostBatch], put: Callable[[HostBatch], Any], depth: int = 2):
        """Transfers are asynchronous; up to `depth` batches are in flight at any time."""
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
