"""Memory that processes share, and batches in it.

The memory is anonymous (`memfd_create`) and passed on as a file descriptor. It has no name in
/dev/shm that could be left behind, and that folder's limit in containers does not apply to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import mmap
import os
import weakref
from collections.abc import Callable, Iterator, Mapping

import numpy as np

_ALIGNMENT = 64  # bytes; jax uses memory aligned like this on a CPU without copying it


@contextlib.contextmanager
def new(size: int) -> Iterator[tuple[int, mmap.mmap]]:
    """New memory, and a file descriptor to pass it on, which is valid within the context."""
    file = os.memfd_create("ssljax")
    try:
        os.ftruncate(file, size)
        yield file, mmap.mmap(file, size)
    finally:
        os.close(file)


def received(file: int) -> mmap.mmap:
    """The memory behind a file descriptor; the descriptor is closed."""
    try:
        return mmap.mmap(file, os.fstat(file).st_size)
    finally:
        os.close(file)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the arrays of a batch are in memory: one after the other.

    Attributes:
      arrays: shapes and dtypes by name.
    """

    arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(_rounded(_bytes(*array)) for array in self.arrays.values())

    def on(
        self, memory: mmap.mmap, gone: Callable[[], None] | None = None
    ) -> dict[str, np.ndarray]:
        """The arrays.

        Args:
          memory: at least `size` bytes.
          gone: called when the last of these arrays and their views has been freed.
        """
        whole, start, arrays = np.frombuffer(memory, np.uint8), 0, {}
        if gone:
            weakref.finalize(whole, gone).atexit = False
        for name, (shape, dtype) in self.arrays.items():
            size = _bytes(shape, dtype)
            arrays[name] = whole[start : start + size].view(dtype).reshape(shape)
            start += _rounded(size)
        return arrays


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
