"""Memory that processes share, and batches in it.

It is anonymous (`memfd_create`), and passed on as a file descriptor: it has no name in /dev/shm
that could be left behind, nor that folder's limit in containers.
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

_ALIGNMENT = 64  # bytes; from such places on jax takes memory as it is on a CPU, without a copy


@contextlib.contextmanager
def new(size: int) -> Iterator[tuple[int, mmap.mmap]]:
    """Some bytes of memory, and within the context a file descriptor to pass it on."""
    file = os.memfd_create("ssljax")
    try:
        os.ftruncate(file, size)
        yield file, mmap.mmap(file, size)
    finally:
        os.close(file)


def passed_on(file: int) -> mmap.mmap:
    """The memory behind a file descriptor, which is closed."""
    try:
        return mmap.mmap(file, os.fstat(file).st_size)
    finally:
        os.close(file)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where in some memory the arrays of a batch lie: one after the other.

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
          gone: called when the last of these arrays, and the last view of them, is no more.
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
