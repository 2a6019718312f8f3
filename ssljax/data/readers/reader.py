"""A reader process; `ssljax.data.readers.reader_processes` starts it and describes it.

A message is a pickled tuple: a command, the number of a reading, and arguments.

    open      with a file descriptor: the pickled `ReadBatch` and `Layout` of a new reading
    slot      with a file descriptor: memory for its batches
    read      number of a slot, epoch: fills the slot; the answer is None or an exception
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

from ssljax.data.readers import shared_memory
from ssljax.settings.errors import InputError

if TYPE_CHECKING:
    from ssljax.data.read_batch import ReadBatch
    from ssljax.data.readers.shared_memory import Layout

LONGEST = 2**16  # bytes of a message


class _Reading:
    """The reader process's side of a reading."""

    def __init__(self, description: mmap.mmap):
        self._description = description
        self.slots: list[mmap.mmap] = []

    @functools.cached_property
    def _read(self) -> tuple[ReadBatch, Layout]:
        description = pickle.loads(self._description)
        if opencv := sys.modules.get("cv2"):
            opencv.setNumThreads(1)  # each core has a reader already
        return description

    def fill(self, slot: int, epoch: int) -> Exception | None:
        """Reads a batch into a slot; returns the error, if there was one."""
        try:
            read, layout = self._read
            read.fill(epoch, layout.on(self.slots[slot]))
        except InputError as error:
            return error
        except Exception:
            return RuntimeError(traceback.format_exc()[-LONGEST // 4 :])
        return None


def work(parent: socket.socket) -> None:
    """Answers messages until the training process ends."""
    import ssljax.data.read_batch  # noqa: F401  takes a while, so before reporting to be ready

    readings: dict[int, _Reading] = {}
    with contextlib.suppress(ConnectionError):  # the training process has ended
        parent.send(b"up")
        while True:
            message, files, _, _ = socket.recv_fds(parent, LONGEST, 1)
            if not message:
                return
            kind, number, *arguments = pickle.loads(message)
            if kind == "open":
                readings[number] = _Reading(shared_memory.received(files[0]))
            elif kind == "slot":
                readings[number].slots.append(shared_memory.received(files[0]))
            elif kind == "read":
                parent.send(pickle.dumps(readings[number].fill(*arguments)))
            else:
                del readings[number]


if __name__ == "__main__":
    work(socket.socket(fileno=int(sys.argv[1])))
