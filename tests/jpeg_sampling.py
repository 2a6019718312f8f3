"""Writes JPEGs of any sampling, which no library at hand does."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

USUAL = (0x22, 0x11, 0x11)  # 4:2:0
UNUSUAL = ((0x31, 0x11, 0x11), (0x13, 0x11, 0x11), (0x11, 0x22, 0x22), (0x22, 0x21, 0x12))

# Huffman codes of 4 bits, which are the symbols themselves: 12 categories of DC, and the end of the
# block as the only AC symbol.
_DC, _AC = bytes(range(12)), b"\x00"


def encode(width: int, height: int, sampling: Sequence[int], rng: np.random.Generator) -> bytes:
    """A JPEG of three components whose 8×8 blocks have one random value each.

    Args:
      width: in pixels.
      height: in pixels.
      sampling: of each component, its horizontal and its vertical factor as 0xHV.
      rng: draws the values.
    """
    frame = b"".join(bytes([number, factors, 0]) for number, factors in enumerate(sampling))
    scan = b"".join(bytes([number, 0]) for number in range(len(sampling)))
    header = (
        _segment(0xDB, b"\x00" + b"\x08" * 64)
        + _segment(0xC0, struct.pack(">BHHB", 8, height, width, len(sampling)) + frame)
        + _segment(0xC4, b"\x00" + _counts(_DC) + _DC)
        + _segment(0xC4, b"\x10" + _counts(_AC) + _AC)
        + _segment(0xDA, bytes([len(sampling)]) + scan + b"\x00\x3f\x00")
    )
    across, down = (max(each >> 4 for each in sampling), max(each & 15 for each in sampling))
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    bits, previous = [], [0] * len(sampling)
    for _ in range(units):
        for component, factors in enumerate(sampling):
            for _ in range((factors >> 4) * (factors & 15)):
                value = int(rng.integers(-100, 100))
                change, previous[component] = value - previous[component], value
                length = abs(change).bit_length()
                bits.append(f"{length:04b}")
                if length:
                    bits.append(
                        f"{change if change > 0 else change + (1 << length) - 1:0{length}b}"
                    )
                bits.append("0000")
    code = "".join(bits)
    code += "1" * (-len(code) % 8)
    data = int(code, 2).to_bytes(len(code) // 8).replace(b"\xff", b"\xff\x00")
    return b"\xff\xd8" + header + data + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _counts(symbols: bytes) -> bytes:
    return bytes([0, 0, 0, len(symbols)]) + bytes(12)
