"""The decoded pictures of a split, and keeping them in memory after the first epoch."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssljax.data import images
from ssljax.data.records import Records
from ssljax.errors import InputError

_SHARE_OF_MEMORY = 0.8  # of what is available when training starts
_SAMPLE = 64  # pictures that an estimate looks at


class Pictures:
    """The squares of a split's pictures; `CachedPictures` keeps what it has decoded.

    Attributes:
      records: the split.
      size: the side of the squares, in pixels.
      decoding: `exact` or `fast`.
    """

    def __init__(self, records: Records, size: int, decoding: str = "exact"):
        """Decoding is `exact` (`ssljax.data.images`) or `fast` (`ssljax.data.fast_images`)."""
        self.records, self.size, self.decoding = records, size, decoding
        self._fast = None
        if decoding == "fast":
            from ssljax.data import fast_images  # OpenCV takes a while to import

            self._fast = fast_images

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.records, self.size, self.decoding)  # for reader processes

    def __len__(self) -> int:
        return len(self.records)

    def read(self, records: Sequence[int]) -> list[tuple[Any, int]]:
        """What `square` takes of some records, and their labels or -1."""
        return self.records.read(records)

    def square(self, picture: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """Cuts a square out of a picture and resizes it.

        Args:
          picture: from `read`.
          rng: draws where the square lies; None takes the centre.
          out: uint8[size, size, 3], where the result goes.

        Raises:
          ImageError: it cannot be decoded.
        """
        if self._fast:
            self._fast.square(picture, rng, out)
        else:
            self._resize(images.decode(picture), rng, out)

    def _resize(self, picture: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        box = images.square_box(*images.dimensions(picture), rng)
        (self._fast or images).resize(picture, box, out)


class CachedPictures(Pictures):
    """Keeps every picture once it is decoded, as uint8[H, W, 3], for all reader threads.

    A picture that is square already, and so is never cropped, is kept at the size that is asked
    for. What comes out is the same as without the cache, to the bit.
    """

    def __init__(self, records: Records, size: int, decoding: str = "exact"):
        super().__init__(records, size, decoding)
        self._kept: dict[int, tuple[np.ndarray, int]] = {}

    def read(self, records: Sequence[int]) -> list[tuple[Any, int]]:
        """See `Pictures`; pictures that are not kept yet are decoded here.

        Raises:
          InputError: a record cannot be decoded.
        """
        new = [record for record in records if record not in self._kept]
        for record, (data, label) in zip(new, super().read(new), strict=True):
            try:
                fast = self._fast
                picture = fast.decode(data, self.size) if fast else images.decode(data)
            except images.ImageError as error:
                raise not_decoded(self.records, record, error) from error
            self._kept[record] = self._keepable(picture), label
        return [self._kept[record] for record in records]

    def square(self, picture: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """See `Pictures`."""
        self._resize(picture, rng, out)

    def _keepable(self, picture: Any) -> np.ndarray:
        width, height = images.dimensions(picture)
        if width != height:
            return np.asarray(picture)
        out = np.empty((self.size, self.size, 3), np.uint8)
        self._resize(picture, None, out)
        return out

    def estimated_bytes(self) -> int:
        """Memory that all pictures of the split will take, from a sample of them."""
        sample = np.linspace(0, len(self) - 1, min(_SAMPLE, len(self))).astype(int)
        sizes = [picture.nbytes for picture, _ in self.read(sample.tolist())]
        return round(sum(sizes) / len(sizes) * len(self))


def not_decoded(records: Records, record: int, error: Exception) -> InputError:
    """Names the record."""
    return InputError(f"{records.name}: record {record}: {error}")


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


def open_pictures(cache: str, *splits: Records, size: int, decoding: str) -> list[Pictures]:
    """The pictures of some splits, kept in memory if `cache` is "ram".

    Args:
      size: the side of the squares that are asked for, in pixels.
      decoding: `exact` or `fast`.

    Raises:
      InputError: they are not expected to fit.
    """
    if not cache:
        return [Pictures(records, size, decoding) for records in splits]
    kept = [CachedPictures(records, size, decoding) for records in splits]
    needed = sum(pictures.estimated_bytes() for pictures in kept)
    free = available_memory()
    what = f"data.cache: {sum(map(len, kept)):,} decoded pictures take about {needed / 1e9:.2g} GB"
    if needed > _SHARE_OF_MEMORY * free:
        raise InputError(f"{what}, {free / 1e9:.2g} GB are available; set --config.data.cache=''")
    print(what, file=sys.stderr)
    return list(kept)
