"""Truth values of many images in a JSON file."""

from __future__ import annotations

import numpy as np


def packed(hits: np.ndarray) -> str:
    """bool[N] as hexadecimal digits, four values each, so that JSON can hold them."""
    return np.packbits(hits).tobytes().hex()


def unpacked(digits: str, count: int) -> np.ndarray:
    """bool[count], from `packed`.

    Raises:
      ValueError: these are not the digits of so many values.
    """
    bits = np.frombuffer(bytes.fromhex(digits), np.uint8)
    if len(bits) != -(-count // 8):
        raise ValueError(f"expected the digits of {count} values, got {len(digits)} digits")
    return np.unpackbits(bits, count=count).astype(bool)
