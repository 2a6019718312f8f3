"""Decoded images that are kept in memory after the first epoch: `data.cache=ram`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssljax.data import images
from ssljax.data.image_source import ImageSource
from ssljax.data.records import Records
from ssljax.files.memory import available_memory
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say

_SHARE_OF_MEMORY = 0.8  # of what is available when training starts
_SAMPLE = 64  # images that an estimate decodes


class CachedImages(ImageSource):
    """Keeps every image once it is decoded, as uint8[H, W, 3], for all reader threads.

    An image that is square already is never cropped, so it is kept at the requested size, and so is
    a canvas, with the height and width of its image. The result is the same as without the cache,
    to the bit.
    """

    def __init__(self, records: Records, size: int, decoding: str = "exact", whole: bool = False):
        super().__init__(records, size, decoding, whole)
        self._kept: dict[int, tuple[Any, int]] = {}

    def read(self, records: Sequence[int]) -> list[tuple[Any, int]]:
        """See `ImageSource.read`; images that are not kept yet are decoded here.

        Raises:
          InputError: a record cannot be decoded.
        """
        new = [record for record in records if record not in self._kept]
        for record, (data, label) in zip(new, super().read(new), strict=True):
            try:
                kept = self._canvas(data) if self.whole else self._keepable(self.decode(data))
            except images.ImageError as error:
                raise self.not_decoded(record, error) from error
            self._kept[record] = kept, label
        return [self._kept[record] for record in records]

    def square(self, image: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """See `ImageSource.square`."""
        self.resize(image, rng, out)

    def canvas(self, image: Any, out: np.ndarray) -> tuple[int, int]:
        """See `ImageSource.canvas`."""
        out[:], size = image
        return size

    def _canvas(self, data: bytes) -> tuple[np.ndarray, tuple[int, int]]:
        out = np.empty((self.size, self.size, 3), np.uint8)
        return out, super().canvas(data, out)

    def _keepable(self, image: Any) -> np.ndarray:
        width, height = images.dimensions(image)
        if width != height:
            return np.asarray(image)
        out = np.empty((self.size, self.size, 3), np.uint8)
        self.resize(image, None, out)
        return out

    def estimated_bytes(self) -> int:
        """The memory that all images of the split will need, estimated from a sample."""
        if self.whole:
            return 3 * self.size**2 * len(self)
        sample = np.linspace(0, len(self) - 1, min(_SAMPLE, len(self))).astype(int)
        sizes = [image.nbytes for image, _ in self.read(sample.tolist())]
        return round(sum(sizes) / len(sizes) * len(self))


def open_images(
    cache: str,
    *splits: Records,
    size: int,
    decoding: str,
    whole: bool = False,
    processes: int = 1,
) -> list[ImageSource]:
    """The images of some splits, kept in memory if `cache` is `ram`.

    Args:
      cache: `config.data.cache`.
      *splits: the records.
      size: the side of the square images, in pixels.
      decoding: `exact` or `fast`.
      whole: whole images, see `ImageSource`.
      processes: of the run on this machine. Each of them keeps all images, since every epoch gives
        it others.

    Raises:
      InputError: they are not expected to fit into memory.
    """
    if not cache:
        return [ImageSource(records, size, decoding, whole) for records in splits]
    kept = [CachedImages(records, size, decoding, whole) for records in splits]
    needed = processes * sum(images.estimated_bytes() for images in kept)
    free = available_memory()
    what = f"data.cache: {sum(map(len, kept)):,} decoded images need about {needed / 1e9:.2g} GB"
    if processes > 1:
        what += f" in {processes} processes"
    if needed > _SHARE_OF_MEMORY * free:
        raise InputError(f"{what}, {free / 1e9:.2g} GB are available; set --config.data.cache=''")
    say(what)
    return list(kept)
