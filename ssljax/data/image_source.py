"""The square images of a split, decoded from its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssljax.data import images
from ssljax.data.records import Records
from ssljax.settings.errors import InputError


class ImageSource:
    """Decodes the images of a split; `ssljax.data.cache.CachedImages` keeps them in memory.

    Attributes:
      records: the split.
      size: the side of the square images, in pixels.
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

    def square(self, image: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """Cuts a square out of an image and resizes it.

        Args:
          image: from `read`.
          rng: draws the place of the square; None takes the centre.
          out: uint8[size, size, 3], the result.

        Raises:
          ImageError: it cannot be decoded.
        """
        if self._fast:
            self._fast.square(image, rng, out)
        else:
            self.resize(images.decode(image), rng, out)

    def resize(self, image: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """Cuts a square out of a decoded image and resizes it, see `square`."""
        box = images.square_box(*images.dimensions(image), rng)
        (self._fast or images).resize(image, box, out)

    def decode(self, data: bytes) -> Any:
        """Decodes an image file's bytes as `square` does, but whole.

        Raises:
          ImageError: it cannot be decoded.
        """
        return self._fast.decode(data, self.size) if self._fast else images.decode(data)

    def not_decoded(self, record: int, error: Exception) -> InputError:
        """The error for a record that cannot be decoded; it names the record."""
        return InputError(f"{self.records.name}: record {record}: {error}")
