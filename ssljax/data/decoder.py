"""Decodes images to squares of one size: a square is cut out, or the whole image is squashed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssljax.data import exact_jpeg, images


class Decoder:
    """Decodes images to squares, in the way that `config.data.decoding` names.

    Attributes:
      size: the side of the squares, in pixels.
      decoding: `exact` (`ssljax.data.images`) or `fast` (`ssljax.data.fast_images`).
    """

    def __init__(self, size: int, decoding: str = "exact"):
        self.size, self.decoding = size, decoding
        self._fast = None
        if decoding == "fast":
            from ssljax.data import fast_images  # OpenCV takes a while to import

            self._fast = fast_images

    def square(self, image: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """Cuts a square out of an image and resizes it.

        Args:
          image: the bytes of an image file.
          rng: draws the place of the square; None takes the centre.
          out: uint8[size, size, 3], the result.

        Raises:
          ImageError: it cannot be decoded.
        """
        if self._fast:
            self._fast.square(image, rng, out)
        else:
            self.resize(self.decode(image), rng, out)

    def resize(self, image: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """Cuts a square out of a decoded image, uint8[H, W, 3] or Pillow's, see `square`."""
        if self._fast:
            image = np.asarray(image)
        box = images.square_box(*images.dimensions(image), rng)
        (self._fast or images).resize(image, box, out)

    def canvas(self, image: Any, out: np.ndarray) -> tuple[int, int]:
        """Squashes a whole image to a square.

        Args:
          image: the bytes of an image file.
          out: uint8[size, size, 3], the result.

        Returns:
          The height and the width of the image.

        Raises:
          ImageError: it cannot be decoded.
        """
        if self._fast:
            return self._fast.canvas(image, out)
        decoded = self.decode(image)
        images.squash(decoded, out)
        width, height = images.dimensions(decoded)
        return height, width

    def decode(self, data: bytes) -> Any:
        """Decodes an image file's bytes as `square` does, but whole.

        Raises:
          ImageError: it cannot be decoded.
        """
        if self._fast:
            return self._fast.decode(data, self.size)
        pixels = exact_jpeg.decode(data)
        return images.decode(data) if pixels is None else pixels
