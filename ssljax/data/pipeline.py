"""The grain pipeline: from records to batches of uint8 pictures and the task's draws.

Every random draw hangs on (seed, epoch, record) alone, or on (seed, record) when evaluating, and
every position is computed from the step; so threads, processes and restarts change nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np

from ssljax.data import images
from ssljax.data.order import PADDING, Order, record_rng
from ssljax.data.pictures import Pictures
from ssljax.tasks.task import Task

HostBatch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ReadExample:
    """Turns an (epoch, record) pair into one example; runs on the reader threads."""

    pictures: Pictures
    task: Task
    seed: int
    train: bool
    random_crop: bool

    def __call__(self, place: tuple[int, int]) -> dict[str, Any]:
        """Reads, decodes, crops, resizes and draws."""
        epoch, record = place
        size = self.task.image_size
        rng = record_rng(self.seed, max(record, 0), epoch if self.train else None)
        if record == PADDING:
            image, label = np.zeros((size, size, 3), np.uint8), 0
        else:
            picture, label = self.pictures[record]
            image = images.square(picture, size, rng if self.random_crop else None)
        return {
            "image": image,
            "label": np.int32(label),
            "record": np.int32(record),
            "mask": np.bool_(record != PADDING),
            **self.task.draw(label, rng, self.train),
        }


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
    start_step: int = 0,
) -> Iterator[HostBatch]:
    """This process's part of every global batch from start_step on.

    Args:
      batch_size: the global batch; each process gets an equal share of it.
      train: shuffle, and draw anew every epoch; else listing order and one draw for all epochs.
      random_crop: cut the square at a random place instead of the centre.
      threads: readers; 0 reads in the caller's thread.

    Yields:
      uint8[b, S, S, 3] `image`, int32[b] `label` and `record`, bool[b] `mask`, and the task's
      draws stacked, with b = batch_size / processes. Each epoch ends with a padded batch.

    Raises:
      InputError: a record that cannot be decoded.
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
    read = ReadExample(pictures, task, seed, train, random_crop)
    steps = grain.MapDataset.source(order).map(read).batch(order.local_batch_size)
    # Buffered elements are whole batches: each thread works on one, and one more waits for it.
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
