"""Numbers of prepared records, kept in small files next to each ArrayRecord file.

A label is stored in the same record as its image. Reading all labels of a data set therefore reads
every image, which this is done once for: `FILE.label.npy` then holds the labels of FILE, int64[N],
and `FILE.digest.npy` the digests of its images (`ssljax.data.digests`).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable

import numpy as np
from google.protobuf.message import DecodeError
from tqdm import tqdm

from ssljax.data.array_record import Part, open_file
from ssljax.files import storage, untrusted
from ssljax.files.new_file import new_file
from ssljax.settings.errors import InputError

_AT_ONCE = 256  # records held in memory
_MOST_READ = 64  # files whose numbers are remembered
_READ: dict[tuple[str, str, int, int], np.ndarray] = {}


def part_values(
    part: Part, key: str, parse: Callable[[bytes], int], write: bool = True
) -> np.ndarray:
    """The numbers of a part of an ArrayRecord file.

    Args:
      part: which records.
      key: names the number, and is a part of the kept file's name.
      parse: gets the number out of a serialised record.
      write: write them to a file if there is none yet.

    Returns:
      int64[part.length].

    Raises:
      InputError: the file is damaged.
    """
    values = _kept(part.filename, key)
    if values is None or len(values) < part.skip + part.length:
        values = _read_once(part.filename, key, parse)
        if write:
            keep(part.filename, key, values)
    return values[part.skip : part.skip + part.length]


def are_kept(part: Part, key: str) -> bool:
    """Whether the numbers of a part can be had without reading its records."""
    values = _kept(part.filename, key)
    return values is not None and len(values) >= part.skip + part.length


def at_hand(part: Part, key: str, write: bool) -> bool:
    """Whether the numbers of a part are kept, or will be once they have been read."""
    if are_kept(part, key):
        return True
    folder = os.path.dirname(part.filename)
    return write and not storage.is_remote(folder) and os.access(folder, os.W_OK)


def _path(filename: str, key: str) -> str:
    return f"{filename}.{key}.npy"


def _kept(filename: str, key: str) -> np.ndarray | None:
    """The kept numbers; None if there are none or the data are newer."""
    path = _path(filename, key)
    try:
        if storage.is_remote(filename) or os.stat(path).st_mtime_ns < os.stat(filename).st_mtime_ns:
            return None
    except OSError:
        return None
    return untrusted.read_array(path, np.int64, 1)


def keep(filename: str, key: str, values: np.ndarray) -> None:
    """Writes the numbers of a file's records for the next time, if the folder can be written."""
    if storage.is_remote(filename):
        return
    target = pathlib.Path(_path(filename, key))
    with contextlib.suppress(OSError), new_file(target) as file:
        np.save(file, values)


def _read_once(filename: str, key: str, parse: Callable[[bytes], int]) -> np.ndarray:
    """The numbers of all records; a process that may not keep them in a file remembers them."""
    if storage.is_remote(filename):
        return _read(filename, parse)
    try:
        status = os.stat(filename)
    except OSError as error:
        raise InputError(f"{filename} cannot be read: {error.strerror}") from error
    which = (filename, key, status.st_size, status.st_mtime_ns)
    if which not in _READ:
        while len(_READ) >= _MOST_READ:
            _READ.pop(next(iter(_READ)))
        _READ[which] = _read(filename, parse)
    return _READ[which]


def _read(filename: str, parse: Callable[[bytes], int]) -> np.ndarray:
    try:
        reader = open_file(filename)
        count = reader.num_records()
        values = np.empty(count, np.int64)
        bar = tqdm(
            total=count,
            desc="looking at each image once",
            unit=" images",
            delay=3,
            leave=False,
            disable=None,
        )
        for start in range(0, count, _AT_ONCE):
            stop = min(start + _AT_ONCE, count)
            values[start:stop] = [parse(record) for record in reader.read(start, stop)]
            bar.update(stop - start)
        bar.close()
    except (OSError, RuntimeError, ValueError, IndexError, DecodeError) as error:
        raise InputError(f"{filename} cannot be read: {error}") from error
    return values
