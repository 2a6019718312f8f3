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
import itertools
import multiprocessing.connection
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ssljax.data.order import Step
from ssljax.data.readers import batch_requests
from ssljax.data.readers.batch_requests import Reading, Request
from ssljax.data.readers.shared_memory import Layout
from ssljax.data.readers.worker import Worker

if TYPE_CHECKING:
    from ssljax.data.read_batch import HostBatch, ReadBatch

_AHEAD = 2  # batches requested from a process at a time, so that it need not wait for the next

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
        self._workers = [Worker() for _ in range(count)]
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
        reading = Reading(next(self._numbers), read, Layout(read.layout(batch_size)))
        asked: collections.deque[Request] = collections.deque()
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

    def _idlest(self) -> Worker | None:
        """The process with the fewest requests, if one can take more."""
        able = [
            worker
            for worker in self._workers
            if worker.up and not worker.late and len(worker.asked) < _AHEAD
        ]
        return min(able, key=lambda worker: len(worker.asked), default=None)

    def _take_answers(self, until: Request | None = None) -> None:
        """Takes the answers that have arrived, and waits for that to a given request.

        If its process does not answer, the request is given up.
        """
        end = time.monotonic() + batch_requests.PATIENCE
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
