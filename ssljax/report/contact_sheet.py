"""A contact sheet: what the network sees of some records, as one image."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssljax.report.network_inputs import Seen
from ssljax.settings.printable import shortened

_CELL, _GAP, _LINE = 128, 8, 16  # pixels: of an image, between images, of a line of text
_WHITE, _BLACK, _GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def draw(title: str, records: Sequence[Seen]) -> bytes:
    """A row for each record: the original image, then its inputs in each epoch.

    Args:
      title: what is shown.
      records: at least one, all with the same number of inputs.

    Returns:
      A PNG file.
    """
    font = ImageFont.load_default(12)
    counts = [len(epoch) for epoch in records[0].epochs]
    columns = 1 + sum(counts)
    step, row = _CELL + _GAP, _CELL + _LINE + _GAP
    # Epochs are set apart by another gap.
    width = max(_GAP + columns * step + len(counts) * _GAP, 3 * step)
    height = _GAP + 2 * _LINE + _GAP + len(records) * row
    sheet = Image.new("RGB", (width, height), _WHITE)
    pen = ImageDraw.Draw(sheet)

    def write(place: tuple[int, int], text: str, colour: tuple[int, int, int], room: int) -> None:
        text = shortened(text)
        while text and pen.textlength(text, font) > room:
            text = text[:-2] + "…" if len(text) > 2 else ""
        pen.text(place, text, colour, font)

    def paste(place: tuple[int, int], pixels: np.ndarray) -> None:
        sheet.paste(_fitted(pixels), place)

    write((_GAP, _GAP), title, _BLACK, width - 2 * _GAP)
    write((_GAP, _GAP + _LINE), "original", _GREY, _CELL)
    left = _GAP + step
    for epoch, count in enumerate(counts):
        left += _GAP
        write((left, _GAP + _LINE), f"epoch {epoch + 1}", _GREY, count * step)
        left += count * step
    for index, seen in enumerate(records):
        top = _GAP + 2 * _LINE + _GAP + index * row
        caption = f"{seen.record}: {seen.label}" if seen.label else f"{seen.record}"
        paste((_GAP, top), seen.original)
        write((_GAP, top + _CELL), caption, _BLACK, _CELL)
        left = _GAP + step
        for shown in seen.epochs:
            left += _GAP
            for thumbnail in shown:
                paste((left, top), thumbnail.pixels)
                write((left, top + _CELL), thumbnail.caption, _GREY, _CELL)
                left += step
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _fitted(pixels: np.ndarray) -> Image.Image:
    """An image in the size of a cell; small ones are enlarged by a whole number, pixel by pixel."""
    image = Image.fromarray(pixels)
    enlarged = _CELL // max(image.size)
    if enlarged > 1:
        return image.resize(
            (image.width * enlarged, image.height * enlarged), Image.Resampling.NEAREST
        )
    image.thumbnail((_CELL, _CELL))
    return image
