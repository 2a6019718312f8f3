"""Batches that are requested from reader processes, and the slots of memory they are written to."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import pickle
from typing import TYPE_CHECKING

from ssljax.data.order import Step
from ssljax.data.readers import shared_memory
from ssljax.data.readers.shared_memory import Layout
from ssljax.data.readers.worker import Worker
from ssljax.settings.errors import TrainingFailed
from ssljax.settings.messages import say

if TYPE_CHECKING:
    from ssljax.data.read_batch import HostBatch, ReadBatch

PATIENCE = 10  # seconds until the caller reads a batch that it has requested from a process
_SLOTS = 8  # per process and reading; a caller that keeps more batches gets copies


@dataclasses.dataclass
class _Slots:
    """The slots of one process and one reading; a slot's number is its index in `memory`."""

    memory: list[mmap.mmap] = dataclasses.field(default_factory=list)
    free: list[int] = dataclasses.field(default_factory=list)


class Reading:
    """One call of `batches`: what it reads, and its slots in each process."""

    def __init__(self, number: int, read: ReadBatch, layout: Layout):
        self._number, self._read, self._layout = number, read, layout
        self._slots: dict[Worker, _Slots] = {}

    def ask(self, worker: Worker, step: Step) -> Request:
        """Requests a step's batch from a process."""
        if worker not in self._slots:
            self._slots[worker] = _Slots()
            description = pickle.dumps((self._read, self._layout))
            with shared_memory.new(len(description)) as (file, memory):
                memory[:] = description
                worker.send("open", self._number, file=file)
        slots = self._slots[worker]
        if not slots.free:
            with shared_memory.new(self._layout.size) as (file, memory):
                worker.send("slot", self._number, file=file)
            slots.free.append(len(slots.memory))
            slots.memory.append(memory)
        slot = slots.free.pop()
        arrays = self._layout.on(slots.memory[slot])
        arrays["record"][:], arrays["mask"][:] = step.records, step.mask
        worker.send("read", self._number, slot, step.epoch)
        worker.asked.append(Request(worker, step, self._layout, slots, slot))
        return worker.asked[-1]

    def close(self) -> None:
        """Tells the processes to forget it."""
        for worker in self._slots:
            with contextlib.suppress(TrainingFailed):  # the process has ended
                worker.send("close", self._number)


@dataclasses.dataclass
class Request:
    """A batch that was requested from a process."""

    worker: Worker
    step: Step
    layout: Layout
    slots: _Slots
    slot: int
    answered: bool = False
    given_up: bool = False
    error: Exception | None = None

    def give_up(self) -> None:
        """Nobody will ask for the batch; its slot is reused when the answer comes."""
        if not self.worker.late:
            say(
                f"a reader process (pid {self.worker.process.pid}) has not answered for "
                f"{PATIENCE} seconds; the training process reads its batches until it does"
            )
        self.worker.late = self.given_up = True

    def take(self, error: Exception | None) -> None:
        """Takes the answer."""
        self.error, self.answered = error, True
        if self.given_up:
            self.slots.free.append(self.slot)

    def batch(self) -> HostBatch:
        """The batch; its slot is reused after the last array on it has been freed."""
        if self.error:
            raise self.error
        slots, slot = self.slots, self.slot
        batch = self.layout.on(slots.memory[slot], gone=lambda: slots.free.append(slot))
        if len(slots.memory) < _SLOTS or slots.free:
            return batch
        return {name: array.copy() for name, array in batch.items()}
