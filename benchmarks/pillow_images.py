"""Images that Pillow alone decodes and resizes, which `data.decoding=exact` does in less time."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ssljax.data import images
from ssljax.data.image_source import ImageSource


class PillowImages(ImageSource):
    """The images of some records."""

    def square(self, image: bytes, rng: np.random.Generator | None, out: np.ndarray) -> None:
        """See `ImageSource.square`."""
        decoded = images.decode(image)
        left, top, side = images.square_box(*decoded.size, rng)
        square = decoded.crop((left, top, left + side, top + side))
        out[:] = np.asarray(square.resize((len(out), len(out)), Image.Resampling.BILINEAR))
