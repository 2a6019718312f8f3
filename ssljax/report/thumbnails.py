"""Small images with captions, for the page."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ssljax.methods.method import Method


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """An image with a caption.

    Attributes:
      pixels: uint8[H, W, 3].
      caption: the text below it.
      good: colours the caption; None leaves it grey.
    """

    pixels: np.ndarray
    caption: str
    good: bool | None = None


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Thumbnails that show what a run does.

    Attributes:
      title: a heading, such as `Puzzles of`; the name of the run follows.
      note: what there is to see.
      groups: thumbnails that belong together.
    """

    title: str
    note: str
    groups: Sequence[Sequence[Thumbnail]]


def data_uri(pixels: np.ndarray, longest: int = 160) -> str:
    """uint8[H, W, 3] as a JPEG in a `data:` URI, shrunk to at most `longest` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def to_uint8(normalized: np.ndarray, method: Method) -> np.ndarray:
    """Undoes the method's normalisation: float[…, 3] to uint8."""
    pixels = (normalized * np.asarray(method.data.std) + np.asarray(method.data.mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
