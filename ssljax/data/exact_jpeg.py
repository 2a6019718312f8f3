"""JPEGs as Pillow decodes them, to the bit, in less time.

Pillow and simplejpeg both contain libjpeg-turbo, whose results do not depend on the instructions
that it uses. What Pillow refuses is refused: it opens every file whose header holds more than the
usual segments, and it decodes a file if simplejpeg refuses it, for which the slightest damage is
enough. The number of pixels is checked before memory is taken.
"""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, features

MOST_PIXELS = 2**19  # of an image that gains from this
_SAME_LIBRARY = features.check("libjpeg_turbo")  # distributions may build Pillow with another one

_SEGMENT = struct.Struct(">HH")  # marker and length
_FRAME = struct.Struct(">BHHB")  # bits, height, width, number of colours
_FRAMES = (0xFFC0, 0xFFC1, 0xFFC2)  # baseline, extended and progressive
_SCAN = 0xFFDA
# Tables, comments, and JFIF's and Adobe's segments, with the length from which Pillow takes them.
_USUAL = {0xFFC4: 2, 0xFFDB: 2, 0xFFDD: 2, 0xFFFE: 2, 0xFFE0: 16, 0xFFEE: 14}


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
    with contextlib.suppress(Exception):
        height, width = _usual_size(data) or _size(data)
        if height * width <= min(MOST_PIXELS, Image.MAX_IMAGE_PIXELS or MOST_PIXELS):
            # A buffer of this size, because simplejpeg may read another size from a damaged file.
            pixels = np.empty((height, width, 3), np.uint8)
            if simplejpeg.decode_jpeg(data, buffer=pixels).shape == pixels.shape:
                return pixels
    return None


def _usual_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG with a usual header, which Pillow opens; None for another one."""
    size, place = None, 2
    while True:
        marker, length = _SEGMENT.unpack_from(data, place)
        if marker == _SCAN:
            return size
        if marker in _FRAMES:
            bits, height, width, colours = _FRAME.unpack_from(data, place + _SEGMENT.size)
            size = height, width
            if bits != 8 or colours not in (1, 3):
                return None
        elif length < _USUAL.get(marker, 2**16):
            return None
        place += 2 + length


def _size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG that Pillow opens, if nothing but decoding is to be done.

    Raises:
      ValueError: more is to be done.
    """
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        if turned or image.mode not in ("L", "RGB"):
            raise ValueError
        return image.height, image.width
