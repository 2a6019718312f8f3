"""Random access to the records of ArrayRecord files, on the calling thread.

ArrayRecord's own data source gives every read to a pool of threads, which suits large records on
remote disks. For a photograph of 10 KB in the page cache, waking the pool takes longer than
reading, and its threads compete with the reader threads of `ssljax.data.pipeline`.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Sequence
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader

from ssljax.files import untrusted
from ssljax.settings.errors import InputError

_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 16 * 1024  # bytes that a read requests from the file


class ArrayRecordFiles:
    """The records of some parts of some files, one after the other.

    Attributes:
      parts: in order.
    """

    def __init__(self, instructions: Sequence[Any]):
        """Takes TFDS's file instructions, which have `filename`, `skip` and `take`."""
        self.parts = [Part(each.filename, each.skip, each.take) for each in instructions]
        self._ends = list(itertools.accumulate(part.length for part in self.parts))

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
        return self.parts[part].read(index - (self._ends[part - 1] if part else 0))


class Part:
    """Successive records of one file, which is opened on the first read.

    Attributes:
      filename: the ArrayRecord file.
      skip: its first record that belongs to the part.
      length: how many records belong to the part.
    """

    def __init__(self, filename: str, skip: int, length: int):
        self.filename, self.skip, self.length = filename, skip, length
        self._lock = threading.Lock()
        self._reader: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.filename, self.skip, self.length)  # for reader processes

    def read(self, index: int) -> bytes:
        """The record at an index of the part.

        Raises:
          InputError: the file is damaged.
        """
        with self._lock:  # a reader has one position
            try:
                if self._reader is None:
                    self._reader = open_file(self.filename)
                self._reader.seek(self.skip + index)
                return self._reader.read()
            except (OSError, RuntimeError, ValueError, IndexError) as error:
                raise InputError(
                    f"{self.filename}: record {self.skip + index} cannot be read: {error}"
                ) from error


def open_file(filename: str) -> Any:
    """Opens an ArrayRecord file for reading on the calling thread.

    Raises:
      OSError: it is no regular file.
      RuntimeError, ValueError: it is damaged.
    """
    untrusted.check_regular(filename)
    return ArrayRecordReader(filename, options=_OPTIONS, file_reader_buffer_size=_BUFFER)
