"""Reader processes: they decode straight into memory that the training process has mapped.

Reader threads take turns at Python's lock. A reader process has a lock of its own. It is asked for
one step's batch at a time through a socket, but no batch crosses it: a batch lies in a slot of
shared memory and is given out as arrays on that memory. jax may use it as it is, so a slot is
filled again only when the last array on it, and with it the last `jax.Array`, is gone: Python's
reference counts say when.

The processes are started afresh, not forked, so that they hold nothing of jax's. Until they are
up, which takes a second or two, the caller reads by itself. They take no notice of Ctrl-C and
SIGTERM, which are the training process's to answer, and end when it closes their sockets, which
its own end does, however it comes about.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import itertools
import mmap
import multiprocessing.connection
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ssljax.data import reader, shared_memory
from ssljax.data.shared_memory import Layout
from ssljax.errors import TrainingFailed

if TYPE_CHECKING:
    from ssljax.data.read_batch import HostBatch, ReadBatch

_AHEAD = 2  # batches that a process is asked for at a time, so that it need not wait for its next
_SLOTS = 8  # of a process and a reading; whoever keeps more batches than that gets copies
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


_shared: dict[int, ReaderProcesses] = {}


def shared(count: int) -> ReaderProcesses:
    """The processes for all that this process reads as long as it runs."""
    if count in _shared and not _shared[count].alive:
        _shared.pop(count).close()
    if count not in _shared:
        _shared[count] = ReaderProcesses(count)
    return _shared[count]


class ReaderProcesses:
    """Some processes, for any number of readings at a time: of training and of validation."""

    def __init__(self, count: int):
        self._workers = [_Worker() for _ in range(count)]
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    def batches(
        self, read: ReadBatch, batch_size: int, steps: Iterable[tuple[int, np.ndarray]]
    ) -> Iterator[HostBatch]:
        """The batches of some steps, in order.

        Raises:
          InputError: a record cannot be read or decoded.
          TrainingFailed: a process has died.
        """
        steps = iter(steps)
        reading = _Reading(next(self._numbers), read, Layout(read.layout(batch_size)))
        asked: collections.deque[_Request] = collections.deque()
        try:
            while True:
                self._take_answers()
                while (worker := self._idlest()) and len(asked) < _AHEAD * len(self._workers):
                    if (step := next(steps, None)) is None:
                        break
                    asked.append(reading.ask(worker, step))
                if asked:
                    self._take_answers(until=asked[0])
                    yield asked.popleft().batch()
                elif (step := next(steps, None)) is not None:
                    yield read(step)  # no process is up yet
                else:
                    return
        finally:
            if not self._closed:  # as when Python ends and the reading has not
                reading.close()

    @property
    def alive(self) -> bool:
        """Whether no process has died."""
        return all(worker.process.poll() is None for worker in self._workers)

    @property
    def up(self) -> int:
        """How many processes have begun to work."""
        return sum(worker.up for worker in self._workers)

    def _idlest(self) -> _Worker | None:
        """The process with the least to do, if one can take more."""
        able = [worker for worker in self._workers if worker.up and len(worker.asked) < _AHEAD]
        return min(able, key=lambda worker: len(worker.asked), default=None)

    def _take_answers(self, until: _Request | None = None) -> None:
        """Takes what the processes have answered, and waits for one answer if asked to."""
        with self._lock:
            self._receive(timeout=0)
            while until is not None and not until.answered:
                self._receive(timeout=None)

    def _receive(self, timeout: float | None) -> None:
        for worker in multiprocessing.connection.wait(self._workers, timeout):  # type: ignore[arg-type]
            worker.receive()  # type: ignore[union-attr]

    def close(self) -> None:
        """Ends the processes."""
        self._closed = True
        atexit.unregister(self.close)
        for worker in self._workers:
            worker.socket.close()
        for worker in self._workers:
            try:
                worker.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


class _Worker:
    """A process, as the training process sees it.

    Attributes:
      up: whether it has begun to work.
      asked: what it has not answered yet; it answers in this order.
    """

    def __init__(self) -> None:
        self.up = False
        self.asked: collections.deque[_Request] = collections.deque()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OPENBLAS_NUM_THREADS": "1",
            "JAX_PLATFORMS": "cpu",  # accelerators are the training process's
        }
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # as a child inherits it
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", reader.__name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()

    def fileno(self) -> int:
        """For `multiprocessing.connection.wait`."""
        return self.socket.fileno()

    def send(self, *message: Any, file: int | None = None) -> None:
        """Sends a message, and a file descriptor with it.

        Raises:
          TrainingFailed: the process has died.
        """
        try:
            socket.send_fds(self.socket, [pickle.dumps(message)], [] if file is None else [file])
        except ConnectionError as error:
            raise self._died() from error

    def receive(self) -> None:
        """Takes an answer.

        Raises:
          TrainingFailed: the process has died.
        """
        message = b""
        with contextlib.suppress(ConnectionError):
            message = self.socket.recv(reader.LONGEST)
        if not message:
            raise self._died()
        if self.up:
            request = self.asked.popleft()
            request.error, request.answered = pickle.loads(message), True
        self.up = True

    def _died(self) -> TrainingFailed:
        code = self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if code == -signal.SIGKILL:
            how += ", as the system does when memory runs out: fewer data.workers need less"
        return TrainingFailed(f"a reader process (pid {self.process.pid}) {how}")


@dataclasses.dataclass
class _Slots:
    """Of one process and one reading; a slot's number is its place in `memory`."""

    memory: list[mmap.mmap] = dataclasses.field(default_factory=list)
    free: list[int] = dataclasses.field(default_factory=list)


class _Reading:
    """One call of `batches`: what the processes are told about it, and their slots."""

    def __init__(self, number: int, read: ReadBatch, layout: Layout):
        self._number, self._read, self._layout = number, read, layout
        self._slots: dict[_Worker, _Slots] = {}

    def ask(self, worker: _Worker, step: tuple[int, np.ndarray]) -> _Request:
        """Asks a process for a step's batch."""
        epoch, records = step
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
        self._layout.on(slots.memory[slot])["record"][:] = records
        worker.send("read", self._number, slot, epoch)
        worker.asked.append(_Request(self._layout, slots, slot))
        return worker.asked[-1]

    def close(self) -> None:
        """Lets the processes forget it."""
        for worker in self._slots:
            with contextlib.suppress(TrainingFailed):  # it is gone itself
                worker.send("close", self._number)


@dataclasses.dataclass
class _Request:
    """A batch that a process was asked for."""

    layout: Layout
    slots: _Slots
    slot: int
    answered: bool = False
    error: Exception | None = None

    def batch(self) -> HostBatch:
        """The batch; its slot is free again when the last array on it is gone."""
        if self.error:
            raise self.error
        slots, slot = self.slots, self.slot
        batch = self.layout.on(slots.memory[slot], gone=lambda: slots.free.append(slot))
        if len(slots.memory) < _SLOTS or slots.free:
            return batch
        return {name: array.copy() for name, array in batch.items()}
