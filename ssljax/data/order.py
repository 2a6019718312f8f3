"""Which record stands where: shuffled epochs, padded to whole batches, dealt out to processes.

Everything here is arithmetic on a position, so that any step of any epoch can be read at once:
a run that goes on needs to know nothing but its step.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

PADDING = -1


@dataclasses.dataclass(frozen=True)
class Order(Sequence[tuple[int, np.ndarray]]):
    """What one process reads in each step: the epoch, and int64[b] records.

    Each epoch holds each record exactly once, followed by padding (record -1) up to a whole
    number of global batches. Process p reads the p-th part of every global batch, so that the
    global batches are the same for any number of processes.

    Attributes:
      num_records: records in the split.
      batch_size: the global batch, a multiple of process_count.
      epochs: how many epochs there are.
      shuffle: a new seeded permutation of all records every epoch, or listing order.
      seed: of the permutations.
      process_index: which process reads, from 0.
      process_count: how many there are.
    """

    num_records: int
    batch_size: int
    epochs: int
    shuffle: bool
    seed: int = 0
    process_index: int = 0
    process_count: int = 1

    @property
    def local_batch_size(self) -> int:
        """How many examples of a global batch this process reads."""
        return self.batch_size // self.process_count

    @property
    def steps_per_epoch(self) -> int:
        """Global batches an epoch, the last one padded."""
        return -(-self.num_records // self.batch_size)

    def __len__(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, step: Any) -> Any:
        """The epoch of a step, and this process's records in it."""
        if not 0 <= step < len(self):
            raise IndexError(step)
        epoch, step = divmod(int(step), self.steps_per_epoch)
        start = step * self.batch_size + self.process_index * self.local_batch_size
        stop = max(start, min(start + self.local_batch_size, self.num_records))
        records = np.full(self.local_batch_size, PADDING)
        if not self.shuffle:
            records[: stop - start] = range(start, stop)
        elif stop > start:
            from grain.experimental import index_shuffle  # slow to import, and readers do without

            seed, last = _epoch_seed(self.seed, epoch), self.num_records - 1
            records[: stop - start] = [
                index_shuffle(position, max_index=last, seed=seed, rounds=4)
                for position in range(start, stop)
            ]
        return epoch, records


@functools.lru_cache(maxsize=64)
def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


_streams = threading.local()


def record_rng(seed: int, record: int, epoch: int | None) -> np.random.Generator:
    """The random stream of one record in one epoch; epoch None is the one for evaluation.

    Philox is counter-based: (seed, record) is its key and the epoch a part of its counter, so
    streams never overlap. A thread has one generator, which every call sets anew: that is several
    times as fast as making one. Draw from it before the next call.
    """
    if not hasattr(_streams, "generator"):
        _streams.generator = np.random.Generator(np.random.Philox(key=np.zeros(2, np.uint64)))
        _streams.state = _streams.generator.bit_generator.state
    state = _streams.state  # as of a new generator: nothing is drawn, and nothing left over
    state["state"]["key"][:] = seed, record
    state["state"]["counter"][3] = 0 if epoch is None else epoch + 1
    _streams.generator.bit_generator.state = state
    return _streams.generator
