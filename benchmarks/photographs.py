"""Generates photographs similar to DeepFashion's: JPEG, 300 px on the long side, about 10 KB.

They are random crops of the photographs that come with scikit-image. Noise would not do, because
decoding time depends on the content of an image.
"""

from __future__ import annotations

import functools
import io
import pathlib

import numpy as np
from PIL import Image

from tests.deep_fashion_folder import write_folder

LONG_SIDE = 300
SHIPPED = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")


def photograph(index: int) -> bytes:
    """Generates a JPEG file. The same index gives the same file."""
    rng = np.random.default_rng(index)
    source = _shipped()[rng.integers(len(SHIPPED))]
    aspect = rng.uniform(0.6, 1)  # most photographs of DeepFashion are upright
    height = int(rng.uniform(0.6, 1) * min(source.height, source.width / aspect))
    width = int(height * aspect)
    left = int(rng.integers(source.width - width + 1))
    top = int(rng.integers(source.height - height + 1))
    image = source.crop((left, top, left + width, top + height))
    image = image.resize((round(LONG_SIDE * aspect), LONG_SIDE), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return file.getvalue()


@functools.cache
def _shipped() -> list[Image.Image]:
    import skimage

    folder = pathlib.Path(skimage.__file__).parent / "data"
    return [Image.open(folder / name).convert("RGB") for name in SHIPPED]


def deep_fashion(folder: pathlib.Path, images: int) -> pathlib.Path:
    """Writes a folder in DeepFashion's format, unless it exists.

    Args:
      folder: the parent of the new folder.
      images: the number of photographs.

    Returns:
      The new folder.
    """
    source = folder / f"photographs-{images}"
    if not (source / "done").exists():
        write_folder(source, images, photograph=photograph)
        (source / "done").touch()
    return source
