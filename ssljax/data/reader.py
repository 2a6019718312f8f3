"""A reader process; `ssljax.data.reader_processes` starts it and says what it does.

A message is a pickled tuple: what to do, the number of a reading, and arguments.

    open      with a file descriptor: the pickled `ReadBatch` and `Layout` of a new reading
    slot      with a file descriptor: memory for its batches
    read      number of a slot, epoch: fills the slot; answered with None or an exception
    close     forgets the reading
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import pickle
import socket
import sys
import traceback
from typing import TYPE_CHECKING

from ssljax.data import shared_memory
from ssljax.errors import InputError

if TYPE_CHECKING:
    from ssljax.data.read_batch import ReadBatch
    from ssljax.data.shared_memory import Layout

LONGEST = 2**16  # bytes of a message


class _Reading:
    """A reading, as a reader process sees it."""

    def __init__(self, description: mmap.mmap):
        self._description = description
        self.slots: list[mmap.mmap] = []

    @functools.cached_property
    def _read(self) -> tuple[ReadBatch, Layout]:
        return pickle.loads(self._description)

    def fill(self, slot: int, epoch: int) -> Exception | None:
        """Reads a batch into a slot; returns what went wrong."""
        try:
            read, layout = self._read
            read.fill(epoch, layout.on(self.slots[slot]))
        except InputError as error:
            return error
        except Exception:
            return RuntimeError(traceback.format_exc()[-LONGEST // 4 :])
        return None


def work(parent: socket.socket) -> None:
    """The life of a reader process."""
    import ssljax.data.read_batch  # noqa: F401  takes a while, so before it says that it is up

    readings: dict[int, _Reading] = {}
    with contextlib.suppress(ConnectionError):  # the training process has ended
        parent.send(b"up")
        while True:
            message, files, _, _ = socket.recv_fds(parent, LONGEST, 1)
            if not message:
                return
            kind, number, *arguments = pickle.loads(message)
            if kind == "open":
                readings[number] = _Reading(shared_memory.passed_on(files[0]))
            elif kind == "slot":
                readings[number].slots.append(shared_memory.passed_on(files[0]))
            elif kind == "read":
                parent.send(pickle.dumps(readings[number].fill(*arguments)))
            else:
                del readings[number]


if __name__ == "__main__":
    work(socket.socket(fileno=int(sys.argv[1])))
