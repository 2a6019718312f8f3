"""From the bytes of an image file to a square uint8 picture: decode, crop, resize.

The result is Pillow's own, as torchvision's transforms would give it: exact decoding, and a
bilinear resize that is antialiased when it shrinks.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Only raster formats that Pillow decodes itself: others (EPS, say) would start other programs.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
Image.init()  # registers them once, where threads would race for it


class ImageError(ValueError):
    """The bytes are not an image that can be read."""


def decode(data: bytes) -> Image.Image:
    """Decodes an image file's bytes into an upright RGB picture.

    Grey, palette, CMYK and 16-bit pictures become 8-bit RGB, transparency is dropped, and an EXIF
    orientation is applied.

    Raises:
      ImageError: the bytes are no image, are cut short, or hold more pixels than Pillow allows.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return upright_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"it is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # on damaged files Pillow's readers raise all sorts of errors
        raise ImageError(str(error) or type(error).__name__) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turns a loaded picture of any mode as its EXIF orientation says, into 8-bit RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip 16-bit grey at 255 instead of scaling it.
        grey = np.asarray(image).astype(np.uint32) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def dimensions(picture: Image.Image | np.ndarray) -> tuple[int, int]:
    """Width and height."""
    return picture.shape[1::-1] if isinstance(picture, np.ndarray) else picture.size


def square_box(width: int, height: int, rng: np.random.Generator | None) -> tuple[int, int, int]:
    """Left, top and side of a square of the smaller side.

    Args:
      rng: draws where the square lies along the longer side; None takes the centre.
    """
    side = min(width, height)
    slack = max(width, height) - side
    offset = slack // 2 if rng is None else int(rng.integers(slack + 1))
    return (offset, 0, side) if width > height else (0, offset, side)


def resize(picture: Image.Image | np.ndarray, box: tuple[int, int, int], out: np.ndarray) -> None:
    """Resizes a square of a picture.

    Args:
      picture: an RGB picture, or uint8[H, W, 3].
      box: left, top and side of the square.
      out: uint8[size, size, 3], where the result goes.
    """
    left, top, side = box
    size = len(out)
    if isinstance(picture, np.ndarray):
        picture = picture[top : top + side, left : left + side]
        if side == size:
            out[:] = picture
            return
        picture = Image.fromarray(picture)
    elif picture.size != (side, side):
        # Cropping first keeps the resize from mixing in pixels outside of the square.
        picture = picture.crop((left, top, left + side, top + side))
    if side != size:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    out[:] = np.asarray(picture)


def square(
    picture: Image.Image | np.ndarray, size: int, rng: np.random.Generator | None
) -> np.ndarray:
    """`square_box`, then `resize`: uint8[size, size, 3]."""
    out = np.empty((size, size, 3), np.uint8)
    resize(picture, square_box(*dimensions(picture), rng), out)
    return out
