"""From the bytes of an image file to a square uint8 image: decode, crop, resize.

The result is exactly Pillow's, as torchvision's transforms give it: exact decoding, and a bilinear
resize that is antialiased when it shrinks.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

# Raster formats that Pillow decodes itself. Others, such as EPS, would start other programs.
# Their modules are imported here, since threads would race to do it.
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp")  # of such files
_HUGE = 2**25  # pixels
_MODERATE = 725  # pixels; Pillow resizes larger squares as fast
_one_at_a_time = threading.Lock()


class ImageError(ValueError):
    """The bytes are not an image that can be read."""


def decode(data: bytes) -> Image.Image:
    """Decodes an image file's bytes into an upright RGB image.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB, transparency is dropped, and the EXIF
    orientation is applied.

    Raises:
      ImageError: the bytes are not an image, are truncated, or hold more pixels than Pillow allows.
    """
    with _errors(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        huge = image.width * image.height > _HUGE
        # Several huge images at a time would not fit in memory.
        with _one_at_a_time if huge else contextlib.nullcontext():
            image.load()
            return upright_rgb(image)


def measure_jpeg(data: bytes, scale: int) -> tuple[int, int]:
    """The width and height of a JPEG file, upright, after decoding it at 1/scale of its size.

    Args:
      data: of the file.
      scale: 1, 2, 4 or 8.

    Raises:
      ImageError: see `decode`.
    """
    with _errors(), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        width, height = image.size
        image.draft(None, (max(1, width // scale), max(1, height // scale)))
        image.load()
        upright_rgb(image)
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        return (height, width) if turned else (width, height)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turns whatever Pillow raises into an ImageError."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ImageError(f"its format is not one of {', '.join(FORMATS)}") from error
    except Exception as error:  # on damaged files Pillow's readers raise many kinds of errors
        raise ImageError(str(error) or type(error).__name__) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation of a loaded image and converts it to 8-bit RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip 16-bit grey at 255 instead of scaling it.
        grey = np.asarray(image).astype(np.uint32) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def dimensions(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """Width and height."""
    return image.shape[1::-1] if isinstance(image, np.ndarray) else image.size


def square_box(width: int, height: int, rng: np.random.Generator | None) -> tuple[int, int, int]:
    """Left, top and side of a square whose side is the shorter side of the image.

    Args:
      width: of the image.
      height: of the image.
      rng: draws the place of the square along the longer side; None takes the centre.
    """
    side = min(width, height)
    slack = max(width, height) - side
    offset = slack // 2 if rng is None else int(rng.integers(slack + 1))
    return (offset, 0, side) if width > height else (0, offset, side)


def resize(image: Image.Image | np.ndarray, box: tuple[int, int, int], out: np.ndarray) -> None:
    """Resizes a square of an image.

    Args:
      image: an RGB image, or uint8[H, W, 3].
      box: left, top and side of the square.
      out: uint8[size, size, 3], the result.
    """
    left, top, side = box
    # Cropping first keeps pixels outside the square out of the result.
    square: Image.Image | np.ndarray
    if isinstance(image, np.ndarray):
        square = image[top : top + side, left : left + side]
    else:
        square = image.crop((left, top, left + side, top + side))
    if side <= _MODERATE and side != len(out):
        from ssljax.data import resampling  # SciPy takes a while to import

        resampling.resize(np.asarray(square), out)
    else:
        squash(square, out)


def squash(image: Image.Image | np.ndarray, out: np.ndarray) -> None:
    """Resizes a whole image to a square, whatever its aspect ratio.

    Args:
      image: an RGB image, or uint8[H, W, 3].
      out: uint8[size, size, 3], the result.
    """
    size = len(out)
    if dimensions(image) != (size, size):
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    out[:] = np.asarray(image)


def square(
    image: Image.Image | np.ndarray, size: int, rng: np.random.Generator | None
) -> np.ndarray:
    """`square_box`, then `resize`: uint8[size, size, 3]."""
    out = np.empty((size, size, 3), np.uint8)
    resize(image, square_box(*dimensions(image), rng), out)
    return out
