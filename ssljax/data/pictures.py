"""The decoded pictures of a split, and keeping them in memory after the first epoch."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from PIL import Image

from ssljax.data import images
from ssljax.data.records import Records
from ssljax.errors import InputError

_SHARE_OF_MEMORY = 0.8  # of what is available when training starts
_SAMPLE = 64  # pictures that an estimate looks at


class Pictures:
    """Decoded pictures by record; `CachedPictures` keeps what it has decoded."""

    def __init__(self, records: Records):
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, record: int) -> tuple[Image.Image | np.ndarray, int]:
        """An RGB picture of any size, and the label or -1.

        Raises:
          InputError: the record cannot be decoded.
        """
        data, label = self.records[record]
        try:
            return images.decode(data), label
        except images.ImageError as error:
            raise InputError(f"{self.records.name}: record {record}: {error}") from error


class CachedPictures(Pictures):
    """Keeps every picture once it is decoded, as uint8[H, W, 3], for all reader threads.

    A picture that is square already, and so is never cropped, is kept at the size that is asked
    for. What comes out is the same as without the cache, to the bit.
    """

    def __init__(self, records: Records, size: int):
        super().__init__(records)
        self._size = size
        self._kept: dict[int, tuple[np.ndarray, int]] = {}

    def __getitem__(self, record: int) -> tuple[Image.Image | np.ndarray, int]:
        """See `Pictures`."""
        if record not in self._kept:
            picture, label = super().__getitem__(record)
            self._kept[record] = self._keepable(picture), label
        return self._kept[record]

    def _keepable(self, picture: Image.Image | np.ndarray) -> np.ndarray:
        if isinstance(picture, Image.Image) and picture.width == picture.height:
            return images.square(picture, self._size, None)
        return np.asarray(picture)

    def estimated_bytes(self) -> int:
        """Memory that all pictures of the split will take, from a sample of them."""
        sample = np.linspace(0, len(self) - 1, min(_SAMPLE, len(self))).astype(int)
        sizes = [self[int(record)][0].nbytes for record in sample]  # type: ignore[union-attr]
        return round(sum(sizes) / len(sizes) * len(self))


def available_memory() -> int:
    """Bytes that can be used before the machine swaps or the container's limit is met."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    available = int(values["MemAvailable"].split()[0]) * 1024
    try:
        group = pathlib.Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        return min(available, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return available


def open_pictures(cache: str, *splits: Records, size: int) -> list[Pictures]:
    """The pictures of some splits, kept in memory if `cache` is "ram".

    Args:
      size: the side of the squares that are asked for, in pixels.

    Raises:
      InputError: they are not expected to fit.
    """
    if not cache:
        return [Pictures(records) for records in splits]
    kept = [CachedPictures(records, size) for records in splits]
    needed = sum(pictures.estimated_bytes() for pictures in kept)
    free = available_memory()
    what = f"data.cache: {sum(map(len, kept)):,} decoded pictures take about {needed / 1e9:.2g} GB"
    if needed > _SHARE_OF_MEMORY * free:
        raise InputError(f"{what}, {free / 1e9:.2g} GB are available; set --config.data.cache=''")
    print(what, file=sys.stderr)
    return list(kept)
