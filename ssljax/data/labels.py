"""The labels of prepared records, kept in a small file next to each ArrayRecord file.

A label is stored in the same record as its image. Reading all labels of a data set therefore reads
every image, which this is done once for: `FILE.label.npy` then holds the labels of FILE, int64[N].
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from ssljax.data.array_record import Part, open_file
from ssljax.files import storage
from ssljax.settings.errors import InputError

_AT_ONCE = 256  # records held in memory


def part_labels(
    part: Part, key: str, parse: Callable[[bytes], int], keep: bool = True
) -> np.ndarray:
    """The labels of a part of an ArrayRecord file.

    Args:
      part: which records.
      key: the label's feature, which is a part of the kept file's name.
      parse: gets the label out of a serialised record.
      keep: write them to a file if there is none yet.

    Returns:
      int64[part.length].

    Raises:
      InputError: the file is damaged.
    """
    labels = _kept(part.filename, key)
    if labels is None or len(labels) < part.skip + part.length:
        labels = _read(part.filename, parse)
        if keep:
            _keep(part.filename, key, labels)
    return labels[part.skip : part.skip + part.length]


def at_hand(part: Part, key: str, keep: bool) -> bool:
    """Whether the labels of a part are kept, or will be once they have been read."""
    labels = _kept(part.filename, key)
    if labels is not None and len(labels) >= part.skip + part.length:
        return True
    folder = os.path.dirname(part.filename)
    return keep and not storage.is_remote(folder) and os.access(folder, os.W_OK)


def _path(filename: str, key: str) -> str:
    return f"{filename}.{key}.npy"


def _kept(filename: str, key: str) -> np.ndarray | None:
    """The kept labels; None if there are none or the data are newer."""
    path = _path(filename, key)
    try:
        if storage.is_remote(filename) or os.stat(path).st_mtime_ns < os.stat(filename).st_mtime_ns:
            return None
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return labels if labels.dtype == np.int64 and labels.ndim == 1 else None


def _keep(filename: str, key: str, labels: np.ndarray) -> None:
    """Writes the labels for the next time, if the folder can be written."""
    if storage.is_remote(filename):
        return
    target = pathlib.Path(_path(filename, key))
    with contextlib.suppress(OSError):
        # Several processes may do this at the same time, each with a file of its own.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as file:
            np.save(file, labels)
        os.chmod(file.name, 0o644)
        os.replace(file.name, target)


def _read(filename: str, parse: Callable[[bytes], int]) -> np.ndarray:
    try:
        reader = open_file(filename)
        count = reader.num_records()
        labels = np.empty(count, np.int64)
        bar = tqdm(
            total=count,
            desc="reading labels once",
            unit=" images",
            delay=3,
            leave=False,
            disable=None,
        )
        for start in range(0, count, _AT_ONCE):
            stop = min(start + _AT_ONCE, count)
            labels[start:stop] = [parse(record) for record in reader.read(start, stop)]
            bar.update(stop - start)
        bar.close()
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"{filename} cannot be read: {error}") from error
    return labels
