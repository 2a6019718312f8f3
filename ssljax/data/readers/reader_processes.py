"""Reader processes: they decode directly into memory that is shared with the training process.

Reader threads share Python's global interpreter lock; each reader process has its own. It receives
requests for one batch at a time through a socket. The batch itself does not pass through the
socket: it is written to a slot of shared memory and handed out as arrays on that memory. jax may
use that memory directly, so a slot is reused only after the last array on it, and with it the last
`jax.Array`, has been freed. Python's reference counts tell when.

The processes are started anew, not forked, so that they share no state of jax. They take a second
or two to start; until then the caller reads by itself. It also does so for a process that does not
answer, for example because it was stopped. They ignore Ctrl-C, SIGTERM and SIGHUP, which the
training process handles. They end when the training process closes their sockets, which happens
however it ends.
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
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ssljax.data.order import Step
from ssljax.data.readers import reader, shared_memory
from ssljax.data.readers.shared_memory import Layout
from ssljax.settings.errors import TrainingFailed
from ssljax.settings.messages import say

if TYPE_CHECKING:
    from ssljax.data.read_batch import HostBatch, ReadBatch

_AHEAD = 2  # batches requested from a process at a time, so that it need not wait for the next
_SLOTS = 8  # per process and reading; a caller that keeps more batches gets copies
_PATIENCE = 10  # seconds until the caller reads a batch that it has requested from a process
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

_shared: dict[int, ReaderProcesses] = {}


def shared(count: int) -> ReaderProcesses:
    """The processes that serve everything this process reads, for as long as it runs."""
    if count in _shared and not _shared[count].alive:
        _shared.pop(count).close()
    if count not in _shared:
        _shared[count] = ReaderProcesses(count)
    return _shared[count]


def end_late() -> None:
    """Ends processes that do not answer; they could not end by themselves."""
    for processes in _shared.values():
        processes.end_late()


class ReaderProcesses:
    """Reader processes, which serve any number of readings at the same time."""

    def __init__(self, count: int):
        self._workers = [_Worker() for _ in range(count)]
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    def batches(
        self, read: ReadBatch, batch_size: int, steps: Iterable[Step]
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
                    request = asked.popleft()
                    self._take_answers(until=request)
                    yield request.batch() if request.answered else read(request.step)
                elif (step := next(steps, None)) is not None:
                    yield read(step)  # no process is ready yet
                else:
                    return
        finally:
            if not self._closed:  # it is when Python ends before the reading does
                reading.close()

    @property
    def alive(self) -> bool:
        """Whether all processes run."""
        return all(worker.process.poll() is None for worker in self._workers)

    @property
    def up(self) -> int:
        """The number of processes that are ready."""
        return sum(worker.up for worker in self._workers)

    def _idlest(self) -> _Worker | None:
        """The process with the fewest requests, if one can take more."""
        able = [
            worker
            for worker in self._workers
            if worker.up and not worker.late and len(worker.asked) < _AHEAD
        ]
        return min(able, key=lambda worker: len(worker.asked), default=None)

    def _take_answers(self, until: _Request | None = None) -> None:
        """Takes the answers that have arrived, and waits for that to a given request.

        If its process does not answer, the request is given up.
        """
        end = time.monotonic() + _PATIENCE
        with self._lock:
            self._receive(timeout=0)
            while until is not None and not until.answered:
                self._receive(timeout=0 if until.worker.late else 1)
                if not until.answered and (until.worker.late or time.monotonic() > end):
                    until.give_up()
                    return

    def _receive(self, timeout: float | None) -> None:
        for worker in multiprocessing.connection.wait(self._workers, timeout):  # type: ignore[arg-type]
            worker.receive()  # type: ignore[union-attr]

    def end_late(self) -> None:
        """Ends the processes that do not answer."""
        for worker in self._workers:
            if worker.late:
                worker.process.kill()

    def close(self) -> None:
        """Ends the processes."""
        self._closed = True
        atexit.unregister(self.close)
        self.end_late()
        for worker in self._workers:
            worker.socket.close()
        for worker in self._workers:
            try:
                worker.process.wait(timeout=0 if worker.late else 10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


class _Worker:
    """The training process's side of a reader process.

    Attributes:
      up: whether it is ready.
      late: whether a request was given up, and no answer has come since.
      asked: the requests that it has not answered yet; it answers in this order.
    """

    def __init__(self) -> None:
        self.up = self.late = False
        self.asked: collections.deque[_Request] = collections.deque()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            # The empty entry stands for the working folder, which -P leaves out.
            "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
            "OPENBLAS_NUM_THREADS": "1",
            "JAX_PLATFORMS": "cpu",  # accelerators belong to the training process
        }
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # inherited by the child
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", reader.__name__, str(theirs.fileno())],
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
            self.asked.popleft().take(pickle.loads(message))
        if self.late:
            say(f"the reader process (pid {self.process.pid}) answers again")
        self.up, self.late = True, False

    def _died(self) -> TrainingFailed:
        code = self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if code == -signal.SIGKILL:
            how += "; the system does this when memory runs out: try fewer data.workers"
        return TrainingFailed(f"a reader process (pid {self.process.pid}) {how}")


@dataclasses.dataclass
class _Slots:
    """The slots of one process and one reading; a slot's number is its index in `memory`."""

    memory: list[mmap.mmap] = dataclasses.field(default_factory=list)
    free: list[int] = dataclasses.field(default_factory=list)


class _Reading:
    """One call of `batches`: what it reads, and its slots in each process."""

    def __init__(self, number: int, read: ReadBatch, layout: Layout):
        self._number, self._read, self._layout = number, read, layout
        self._slots: dict[_Worker, _Slots] = {}

    def ask(self, worker: _Worker, step: Step) -> _Request:
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
        worker.asked.append(_Request(worker, step, self._layout, slots, slot))
        return worker.asked[-1]

    def close(self) -> None:
        """Tells the processes to forget it."""
        for worker in self._slots:
            with contextlib.suppress(TrainingFailed):  # the process has ended
                worker.send("close", self._number)


@dataclasses.dataclass
class _Request:
    """A batch that was requested from a process."""

    worker: _Worker
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
                f"{_PATIENCE} seconds; the training process reads its batches until it does"
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
