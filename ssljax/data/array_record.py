"""Random access to the records of ArrayRecord files, on the calling thread.

ArrayRecord's own data source hands every read to a pool of threads, which is made for large records
on far disks: for a photograph of 10 KB in the page cache, waking the pool takes longer than
reading, and its threads spin beside the reader threads of `ssljax.data.pipeline`, which are
parallel already.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Sequence
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader

from ssljax.errors import InputError

_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 16 * 1024  # bytes that a read asks the file for


class ArrayRecordFiles:
    """The records of some parts of some files, one after the other."""

    def __init__(self, parts: Sequence[Any]):
        """Parts are TFDS's file instructions: `filename`, `skip` and `take`."""
        self._parts = [_Part(part.filename, part.skip, part.take) for part in parts]
        self._ends = list(itertools.accumulate(part.length for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> bytes:
        """One record.

        Raises:
          IndexError: there is no such record.
          InputError: its file is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self._ends, index)
        return self._parts[part].read(index - (self._ends[part - 1] if part else 0))


class _Part:
    """A part of one file, opened when it is first read."""

    def __init__(self, filename: str, skip: int, length: int):
        self.length = length
        self._filename, self._skip = filename, skip
        self._lock = threading.Lock()
        self._reader: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Part, (self._filename, self._skip, self.length)  # for worker processes

    def read(self, index: int) -> bytes:
        with self._lock:  # for a reader has one position
            try:
                if self._reader is None:
                    self._reader = ArrayRecordReader(
                        self._filename, options=_OPTIONS, file_reader_buffer_size=_BUFFER
                    )
                self._reader.seek(self._skip + index)
                return self._reader.read()
            except (RuntimeError, ValueError, IndexError) as error:
                raise InputError(
                    f"{self._filename}: record {self._skip + index} cannot be read: {error}"
                ) from error
