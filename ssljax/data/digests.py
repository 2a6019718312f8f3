"""A number that stands for the content of an image, by which copies are found.

For formats without loss it is a hash of the pixels, so that the same image as PNG and as BMP has
one digest. For JPEG and WebP it is a hash of the file without metadata, since decoders differ in
the last bit of a pixel.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from ssljax.data import images

_LOSSLESS = (b"\x89PNG", b"GIF8", b"BM")
_METADATA = {0xFFE1, 0xFFE2, 0xFFED, 0xFFFE}  # EXIF and XMP, colour profiles, IPTC, comments


def digest(data: bytes, pixels: np.ndarray | None = None) -> int:
    """The digest of an image.

    Args:
      data: the bytes of its file.
      pixels: uint8[H, W, 3], as `images.decode` gives them, if they are there already.

    Returns:
      A signed 64-bit number. Two of a million different images share one with a probability of
      3e-8.

    Raises:
      ImageError: the file cannot be decoded, which is only tried for formats without loss.
    """
    hashed = hashlib.blake2b(digest_size=8)
    if data.startswith(_LOSSLESS):
        pixels = np.asarray(images.decode(data)) if pixels is None else pixels
        hashed.update(struct.pack(">II", *pixels.shape[:2]))
        hashed.update(np.ascontiguousarray(pixels).data)  # not a copy, since images may be huge
    else:
        hashed.update(_without_metadata(data))
    return int.from_bytes(hashed.digest(), signed=True)


def _without_metadata(data: bytes) -> bytes:
    """The bytes of a JPEG without its segments of metadata; other bytes as they are."""
    if not data.startswith(b"\xff\xd8"):
        return data
    kept, place = [data[:2]], 2
    while place + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, place)
        if not 0xFFC0 <= marker <= 0xFFFE or marker == 0xFFDA:  # the scan follows
            break
        if marker not in _METADATA:
            kept.append(data[place : place + 2 + length])
        place += 2 + length
    return b"".join([*kept, data[place:]])
