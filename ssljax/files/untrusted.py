"""Reads files that may come from others: only regular files, of a bounded size and a known shape.

A named pipe in the place of a file would block the reader for ever, and a device may have no end.
"""

from __future__ import annotations

import errno
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from tokenize import TokenError
from typing import Any, TextIO, TypeVar

import msgspec
import numpy as np

from ssljax.files import storage
from ssljax.settings.errors import InputError

T = TypeVar("T")

MOST_IMAGE = 2**28  # bytes of an image file
_MOST_JSON = 2**28  # bytes; an evaluation of 1,000 classes has 2 million
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_regular(path: str | os.PathLike[str]) -> None:
    """Checks that a path leads to a regular file, through links or not; opens nothing.

    Objects in buckets always are.

    Raises:
      OSError: it is a named pipe, a device, a socket or a folder, or there is no such file.
    """
    if storage.is_remote(path):
        return
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        said = f"it is {kind}; expected a regular file"
        raise OSError(errno.EINVAL, said, os.fspath(path))


def read_bytes(path: pathlib.Path, at_most: int) -> bytes:
    """The content of a file.

    Args:
      path: of the file, on a disk or in a bucket.
      at_most: bytes that it may have.

    Raises:
      OSError: it is no regular file, is larger, or cannot be read.
    """
    check_regular(path)
    if (size := path.stat().st_size) > at_most:
        said = f"it has {size:,} bytes; at most {at_most:,} are expected"
        raise OSError(errno.EFBIG, said, str(path))
    return path.read_bytes()


def lines(file: TextIO, at_most: int = 2**20) -> Iterator[str]:
    """The lines of a file, with their ends.

    Raises:
      ValueError: one has more than `at_most` characters.
    """
    while line := file.readline(at_most + 1):
        if len(line) > at_most:
            raise ValueError(f"the line has more than {at_most:,} characters")
        yield line


def read_array(path: str | os.PathLike[str], dtype: Any, dimensions: int) -> np.ndarray | None:
    """A `.npy` file on a disk; None if there is none, or not such a one."""
    try:
        check_regular(path)
        # Mapped, because the header of a damaged file may claim any size.
        values = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, OverflowError, TypeError, SyntaxError, TokenError):
        return None
    return np.array(values) if values.dtype == dtype and values.ndim == dimensions else None


def read_json(path: pathlib.Path, shape: type[T], remedy: str) -> T:
    """A JSON file, whose values have the types and the bounds of a shape.

    Args:
      path: of the file.
      shape: a type that msgspec understands, such as a `msgspec.Struct`; keys that it does not
        have are ignored.
      remedy: for messages: what to do with a file that cannot be used.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it cannot be read, is no JSON, or is of another shape.
    """
    try:
        return parse_json(read_bytes(path, _MOST_JSON), shape)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {remedy}") from error


def parse_json(text: str | bytes, shape: type[T]) -> T:
    """JSON, see `read_json`.

    Raises:
      ValueError: it is no JSON, or of another shape; the message names the key.
    """
    try:
        # Python's parser accepts NaN, which a loss may be.
        return convert(json.loads(text), shape)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def convert(value: Any, shape: type[T]) -> T:
    """Values of JSON as a shape, see `read_json`.

    Raises:
      ValueError: they have another one; the message names the key.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        # msgspec names a key as a path that starts with $.
        raise ValueError(
            str(error).replace(" - at `$.", " at `").replace(" - at `$", " at `")
        ) from error
