"""Which records a step reads: shuffled epochs of whole batches, divided among the processes.

Everything here is computed from a position, so that any step of any epoch can be read directly. A
run that resumes needs to know its step and nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Step(NamedTuple):
    """What one process reads in a step.

    Attributes:
      epoch: from 0.
      records: int64[b], record numbers.
      mask: bool[b], False for records that are repeated to fill the last batch of an epoch.
    """

    epoch: int
    records: np.ndarray
    mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class Order(Sequence[Step]):
    """The steps of a training or an evaluation.

    Each epoch holds each record exactly once. Its last batch is filled with records from the
    epoch's beginning, so that every batch consists of real images. These repeated records are
    masked out, unless `count_repeated`. Process p reads the p-th part of every global batch, so
    that the global batches are the same for any number of processes.

    Attributes:
      num_records: records in the split.
      batch_size: the global batch, a multiple of process_count.
      epochs: the number of epochs.
      shuffle: a new seeded permutation of all records every epoch; otherwise listing order.
      seed: of the permutations.
      count_repeated: repeated records have `mask` True, for methods whose loss compares the
        examples of a batch.
      process_index: which process reads, from 0.
      process_count: the number of processes.
    """

    num_records: int
    batch_size: int
    epochs: int
    shuffle: bool
    seed: int = 0
    count_repeated: bool = False
    process_index: int = 0
    process_count: int = 1

    @property
    def local_batch_size(self) -> int:
        """The number of examples of a global batch that this process reads."""
        return self.batch_size // self.process_count

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in an epoch."""
        return -(-self.num_records // self.batch_size)

    def __len__(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, step: Any) -> Any:
        """What this process reads in a step."""
        if not 0 <= step < len(self):
            raise IndexError(step)
        epoch, step = divmod(int(step), self.steps_per_epoch)
        start = step * self.batch_size + self.process_index * self.local_batch_size
        positions = np.arange(start, start + self.local_batch_size)
        mask = (positions < self.num_records) | self.count_repeated
        positions %= self.num_records
        if not self.shuffle:
            return Step(epoch, positions, mask)
        from grain.experimental import index_shuffle  # slow to import, and readers do not need it

        seed, last = _epoch_seed(self.seed, epoch), self.num_records - 1
        records = [
            index_shuffle(int(position), max_index=last, seed=seed, rounds=4)
            for position in positions
        ]
        return Step(epoch, np.array(records), mask)


@functools.lru_cache(maxsize=64)
def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


_streams = threading.local()


def record_rng(seed: int, record: int, epoch: int | None) -> np.random.Generator:
    """The random stream of one record in one epoch; epoch None is for evaluation.

    Philox is counter-based: (seed, record) is its key and the epoch is part of its counter, so
    streams never overlap. Each thread has one generator, which every call sets to a new state. That
    is several times as fast as making one. Draw from it before the next call.
    """
    if not hasattr(_streams, "generator"):
        _streams.generator = np.random.Generator(np.random.Philox(key=np.zeros(2, np.uint64)))
        _streams.state = _streams.generator.bit_generator.state
    state = _streams.state  # of a new generator, from which nothing was drawn
    state["state"]["key"][:] = seed, record
    state["state"]["counter"][3] = 0 if epoch is None else epoch + 1
    _streams.generator.bit_generator.state = state
    return _streams.generator
