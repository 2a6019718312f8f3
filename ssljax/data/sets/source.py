"""What a source of images is: an iterator of items, each with its place and its label.

A source is read twice: once to find out what is in it, and once to copy the bytes. Therefore an
item says where the bytes are, as a part of a file, or has them if they can only be read in order.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ssljax.data import images
from ssljax.files import untrusted
from ssljax.settings.errors import InputError

SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
# The second line has formats that ssljax does not decode; they are counted as bad images.
SUFFIXES = (
    *images.SUFFIXES,
    ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One image of a source.

    Attributes:
      name: where it is in the source, such as `cats/1.jpg`; kept in the records as `filename`.
      file: the file that has its bytes; None if `data` has them.
      start: of the bytes in the file.
      length: of the bytes; None is up to the end of the file.
      data: the bytes, of a source that can only be read in order.
      split: empty if the source has no splits.
      label: the name of its class; None if it has no label.
      fault: why it cannot be used, if that is known without reading it.
      features: further features of the record.
    """

    name: str
    file: pathlib.Path | None = None
    start: int = 0
    length: int | None = None
    data: bytes | None = None
    split: str = ""
    label: str | None = None
    fault: str | None = None
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def read(self) -> bytes:
        """The bytes of the image.

        Raises:
          OSError: they cannot be read.
        """
        if self.file is None:
            return self.data or b""
        if self.length is None:
            return untrusted.read_bytes(self.file, untrusted.MOST_IMAGE)
        if self.length > untrusted.MOST_IMAGE:
            said = f"it has {self.length:,} bytes; at most {untrusted.MOST_IMAGE:,} are expected"
            raise OSError(errno.EFBIG, said, self.name)
        untrusted.check_regular(self.file)
        with open(self.file, "rb") as file:
            file.seek(self.start)
            return file.read(self.length)


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of images in a format.

    Attributes:
      description: what was recognised, for people.
      items: makes a new iterator of all items, in any order.
      class_names: the classes in the source's own order; empty: those that occur, sorted.
      features: TFDS's types of the items' further features.
      total: the number of items, if it is known.
    """

    description: str
    items: Callable[[], Iterator[Item]]
    class_names: tuple[str, ...] = ()
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    total: int | None = None


def split_name(text: str) -> str:
    """The name that TFDS can use for a split, in its usual spelling.

    Raises:
      InputError: the text has no letters or digits to make a name of.
    """
    name = re.sub(r"\W+", "_", text.strip().lower(), flags=re.ASCII).strip("_")
    if not name:
        raise InputError(f"--source: {text!r} cannot be the name of a split; use letters")
    name = SPLITS.get(name, name)
    return name if name[0].isalpha() else f"split_{name}"


def split_of_file(path: str) -> str:
    """The split that a file's name begins with, or its folder's; empty if there is none.

    For example `train-00000-of-00004.parquet`, `val/shard_12.tar`.
    """
    file = pathlib.PurePosixPath(path)
    words = [re.split(r"[-_.]", file.name.lower())[0].rstrip("0123456789")]
    words += [part.lower() for part in reversed(file.parts[:-1])]
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def outside(name: str) -> str | None:
    """Says that a name in a list or archive points outside of its folder, if it does."""
    path = pathlib.PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        return "has a name that points outside the source"
    return None


def inside(root: pathlib.Path, name: str) -> tuple[pathlib.Path, str | None]:
    """The file of a listed name, and why it cannot be used if its name or a link leaves root."""
    if fault := outside(name):
        return root, fault
    path = root / name
    return path, None if _stays(path, _real(root)) else "is a link that leaves the source"


@functools.lru_cache(maxsize=16)
def _real(folder: pathlib.Path) -> str:
    return os.path.realpath(folder)


@functools.lru_cache(maxsize=4096)
def _folder_stays(folder: str, root: str) -> bool:
    real = os.path.realpath(folder)
    return real == root or real.startswith(root.rstrip("/") + "/")


def _stays(path: pathlib.Path, root: str) -> bool:
    # Resolving every path would cost as much as reading the file; folders are few.
    if path.is_symlink():
        return os.path.realpath(path).startswith(root.rstrip("/") + "/")
    return _folder_stays(os.fspath(path.parent), root)
