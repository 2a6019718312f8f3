"""JPEGs as Pillow decodes them, to the bit, in less time.

Pillow and simplejpeg both contain libjpeg-turbo, whose results do not depend on the instructions
that it uses. Pillow opens every file, so what it refuses is refused, and the number of pixels is
checked before memory is taken. A file is left to Pillow if simplejpeg refuses it, for which the
slightest damage is enough, or if more must be done than to decode it.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, features

MOST_PIXELS = 2**19  # of an image that gains from this
_SAME_LIBRARY = features.check("libjpeg_turbo")  # distributions may build Pillow with another one


def decode(data: bytes) -> np.ndarray | None:
    """Decodes an upright grey or RGB JPEG of moderate size that has no fault.

    Args:
      data: of an image file.

    Returns:
      uint8[H, W, 3], the pixels of `images.decode`; None for files that are left to Pillow.
    """
    if not _SAME_LIBRARY or not data.startswith(b"\xff\xd8"):
        return None
    # An error is left to Pillow, too: `images.decode` puts it into words.
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        width, height = image.size
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        if image.mode in ("L", "RGB") and upright and width * height <= MOST_PIXELS:
            # A buffer of this size, because simplejpeg may read another size from a damaged file.
            pixels = np.empty((height, width, 3), np.uint8)
            if simplejpeg.decode_jpeg(data, buffer=pixels).shape == pixels.shape:
                return pixels
    return None
