"""Re-encodes images that are larger than training needs, since decoding them takes long."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_QUALITY = 92


def shrink(pixels: np.ndarray, max_side: int, jpeg: bool) -> bytes:
    """An image file whose longer side is scaled to max_side pixels.

    Args:
      pixels: uint8[H, W, 3].
      max_side: in pixels.
      jpeg: write a JPEG (quality 92), otherwise PNG.
    """
    image = Image.fromarray(pixels)
    scale = max_side / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # The gap makes it reduce very large images by a whole factor first, which is fast.
    smaller = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    if jpeg:
        smaller.save(file, "JPEG", quality=_QUALITY)
    else:
        smaller.save(file, "PNG")
    return file.getvalue()
