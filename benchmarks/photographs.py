"""Photographs of DeepFashion's kind: long side 300 px, JPEG, about 10 KB.

Cut out of the photographs that scikit-image ships, at random places and scales: real photographs,
not noise, for a decoder's time hangs on what is in the picture.
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
    """A JPEG file; the same for the same index."""
    rng = np.random.default_rng(index)
    source = _shipped()[rng.integers(len(SHIPPED))]
    aspect = rng.uniform(0.6, 1)  # most of DeepFashion's are upright
    height = int(rng.uniform(0.6, 1) * min(source.height, source.width / aspect))
    width = int(height * aspect)
    left = int(rng.integers(source.width - width + 1))
    top = int(rng.integers(source.height - height + 1))
    picture = source.crop((left, top, left + width, top + height))
    picture = picture.resize((round(LONG_SIDE * aspect), LONG_SIDE), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=70)
    return file.getvalue()


@functools.cache
def _shipped() -> list[Image.Image]:
    import skimage

    folder = pathlib.Path(skimage.__file__).parent / "data"
    return [Image.open(folder / name).convert("RGB") for name in SHIPPED]


def deep_fashion(folder: pathlib.Path, images: int) -> pathlib.Path:
    """Writes `images` photographs as DeepFashion's folder, unless they are there; returns it."""
    source = folder / f"photographs-{images}"
    if not (source / "done").exists():
        write_folder(source, images, photograph=photograph)
        (source / "done").touch()
    return source
