"""The filters of a network's first layer, as an image."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from ssljax.models import paths

_MOST = 256  # filters
_SMALLEST = 320  # pixels of the image's side, about


def first_kernel(backbone: Any) -> tuple[str, np.ndarray] | None:
    """The first convolution of an image in a backbone's parameters: its path, float[h, w, 3, N]."""
    for path, leaf in paths.flatten(backbone).items():
        if len(leaf.shape) == 4 and leaf.shape[2] == 3:
            return path, np.asarray(leaf, np.float32)
    return None


def tile(kernel: np.ndarray) -> np.ndarray:
    """Filters beside each other, each scaled to [0, 255] by itself: float[h, w, 3, N] to uint8."""
    kernel = np.nan_to_num(kernel[..., :_MOST])
    low, high = kernel.min(axis=(0, 1, 2)), kernel.max(axis=(0, 1, 2))
    scaled = (kernel - low) / np.where(high > low, high - low, 1)
    filters = np.round(255 * scaled).astype(np.uint8).transpose(3, 0, 1, 2)
    count, height, width, channels = filters.shape
    columns = min(count, 16, max(8, math.ceil(math.sqrt(2 * count))))
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height + 1, width + 1, channels + 1), np.uint8)
    cells[:count, :height, :width, :channels] = filters
    cells[:count, :height, :width, channels] = 255  # what is around them is transparent
    cells = cells.reshape(rows, columns, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
    image = cells.reshape(rows * (height + 1), columns * (width + 1), channels + 1)
    factor = max(1, round(_SMALLEST / image.shape[1]))
    return image[:-1, :-1].repeat(factor, axis=0).repeat(factor, axis=1)


def data_uri(kernel: np.ndarray) -> str:
    """The filters as a PNG in a `data:` URI."""
    file = io.BytesIO()
    Image.fromarray(tile(kernel), "RGBA").save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
