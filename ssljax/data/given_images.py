"""Images as users give them: files, folders, bytes, Pillow images and arrays."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from ssljax.data import images as image_files
from ssljax.data.decoder import Decoder
from ssljax.settings.errors import InputError

ImageLike = str | pathlib.Path | bytes | Image.Image | np.ndarray


def several(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """A single image as a list of one; anything else as it is."""
    if isinstance(images, np.ndarray):
        return [images] if images.ndim < 4 else list(images)
    return [images] if isinstance(images, str | pathlib.Path | bytes | Image.Image) else images


def find(names: Iterable[str]) -> list[pathlib.Path]:
    """The files that names mean: a folder stands for all image files in it and below it.

    Files whose name begins with a dot are left out of a folder.

    Raises:
      InputError: there is no image file in a folder.
    """
    found: list[pathlib.Path] = []
    for name in names:
        path = pathlib.Path(os.path.expanduser(name))
        if not path.is_dir():
            found.append(path)
            continue
        inside = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in image_files.SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not inside:
            raise InputError(
                f"{name}: the folder has no image files ({', '.join(image_files.SUFFIXES)})"
            )
        found += inside
    return found


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
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise InputError(f"expected uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
        decoder.resize(image, None, pixels)
        return pixels
    if isinstance(image, Image.Image):
        decoder.resize(image_files.upright_rgb(image), None, pixels)
        return pixels
    name = "the given bytes"
    if not isinstance(image, bytes):
        name = str(image)
        try:
            image = pathlib.Path(os.path.expanduser(image)).read_bytes()
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from error
    try:
        decoder.square(image, None, pixels)
    except image_files.ImageError as error:
        raise InputError(f"{name} cannot be read as an image: {error}") from error
    return pixels
