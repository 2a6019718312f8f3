"""Images as users give them: files, folders, bytes, Pillow images and arrays."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ssljax.data import images as image_files
from ssljax.data.decoder import Decoder
from ssljax.data.image_source import ImageSource
from ssljax.files import untrusted
from ssljax.settings.errors import InputError, first_line

ImageLike = str | pathlib.Path | bytes | Image.Image | np.ndarray
NO_LABEL, UNREADABLE = -1, -2


class GivenImages(ImageSource):
    """Images as users give them, read like those of a split; their labels are -1.

    Attributes:
      images: a sequence of `ImageLike`.
      skip_bad: images that cannot be read get the label -2 instead of ending the reading.
    """

    def __init__(self, images: Sequence[Any], size: int, decoding: str, skip_bad: bool = False):
        self.images, self.skip_bad = images, skip_bad
        self.size, self.decoding, self.whole = size, decoding, False
        self._decoder = Decoder(size, decoding)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.images, self.size, self.decoding, self.skip_bad)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, records: Sequence[int]) -> list[tuple[Any, int]]:
        """The squares of some images, and their labels.

        Raises:
          InputError: an image cannot be read; it is named.
        """
        return [self._read(self.images[record]) for record in records]

    def _read(self, image: ImageLike) -> tuple[np.ndarray, int]:
        try:
            return read_square(image, self._decoder), NO_LABEL
        except InputError:
            if not self.skip_bad:
                raise
            return np.zeros((self.size, self.size, 3), np.uint8), UNREADABLE

    def square(self, image: Any, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """Copies what `read` returned."""
        out[:] = image


def several(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """A single image as a list of one; anything else as it is."""
    if isinstance(images, np.ndarray):
        return [images] if images.ndim < 4 else list(images)
    return [images] if isinstance(images, str | pathlib.Path | bytes | Image.Image) else images


def find(names: Iterable[str]) -> list[str]:
    """The files that names mean: a folder stands for all image files in it and below it, sorted.

    Files and folders whose name begins with a dot are left out of a folder.

    Raises:
      InputError: there is no image file in a folder.
    """
    found: list[str] = []
    for name in names:
        path = os.path.expanduser(name)
        inside = sorted(_below(path))
        if os.path.isdir(path) and not inside:
            raise InputError(
                f"{name}: the folder has no image files ({', '.join(image_files.SUFFIXES)})"
            )
        found += inside or [path]
    return found


def _below(folder: str) -> Iterator[str]:
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(image_files.SUFFIXES) and not name.startswith("."):
                yield os.path.join(path, name)


def read_square(image: ImageLike, decoder: Decoder) -> np.ndarray:
    """The centre square of an image, as training and evaluation see it.

    Args:
      image: a file, its bytes, a Pillow image, or a uint8[H, W, 3] array.
      decoder: says the size of the result, and how files are decoded.

    Returns:
      uint8[size, size, 3].

    Raises:
      InputError: it cannot be read as an image.
    """
    pixels = np.empty((decoder.size, decoder.size, 3), np.uint8)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f"expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
        decoder.resize(image, None, pixels)
        return pixels
    if isinstance(image, Image.Image):
        try:
            loaded = image_files.upright_rgb(image)
        except Exception as error:  # of Pillow's decoders, as for files
            raise InputError(f"the given image cannot be read: {first_line(error)}") from error
        decoder.resize(loaded, None, pixels)
        return pixels
    name = "the given bytes"
    if not isinstance(image, bytes):
        name = str(image)
        try:
            image = untrusted.read_bytes(
                pathlib.Path(os.path.expanduser(image)), untrusted.MOST_IMAGE
            )
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from error
    try:
        decoder.square(image, None, pixels)
    except image_files.ImageError as error:
        raise InputError(f"{name} cannot be read as an image: {error}") from error
    return pixels
