"""Reads every image of a source once: is it whole, how large is it, and what is its digest?"""

from __future__ import annotations

import collections
import concurrent.futures
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from ssljax.data import fast_images, images
from ssljax.data.digests import digest
from ssljax.data.sets.index import Index, Row
from ssljax.data.sets.shrinking import shrink
from ssljax.data.sets.source import Item, Source

_PART = 64  # images that a thread checks at a time
_PART_BYTES = 16 * 2**20  # of images that a part holds in memory


def check(source: Source, index: Index, spool: pathlib.Path, max_side: int = 0) -> None:
    """Adds a row for every image of a source to an index.

    Args:
      source: what to read.
      index: gets the rows, in any order.
      spool: a new file for the bytes that cannot be read a second time, or are re-encoded.
      max_side: pixels; larger images are re-encoded; 0 leaves all as they are.

    Raises:
      InputError: the source is malformed. An image that cannot be used is a row with a fault.
    """
    threads = os.cpu_count() or 1
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    parts = _parts(source.items())
    bar = tqdm(total=source.total, desc="checking", unit=" images", leave=False)
    with bar, open(spool, "wb") as file, concurrent.futures.ThreadPoolExecutor(threads) as pool:
        while True:
            # In parts: submitting single images would cost as much as decoding them.
            while len(waiting) < 2 * threads and (part := next(parts, None)):
                waiting.append(pool.submit(_check_part, part, max_side))
            if not waiting:
                break
            checked = waiting.popleft().result()
            index.add(_spooled(row, data, file) for row, data in checked)
            bar.update(len(checked))
    index.finish()


def _parts(items: Iterator[Item]) -> Iterator[list[Item]]:
    part: list[Item] = []
    size = 0
    for item in items:
        part.append(item)
        size += len(item.data or b"")
        if len(part) == _PART or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _spooled(row: Row, data: bytes | None, file: BinaryIO) -> Row:
    if data is None:
        return row
    start = file.tell()
    file.write(data)
    return Row(row.name, file.name, start, len(data), row.split, row.label, row.fault, row.digest,
               row.bytes, row.width, row.height, row.features)  # fmt: skip


def _check_part(part: list[Item], max_side: int) -> list[tuple[Row, bytes | None]]:
    return [_check(item, max_side) for item in part]


def _check(item: Item, max_side: int) -> tuple[Row, bytes | None]:
    """The row of an image, and its bytes if they must be kept."""
    label, fault, kept, data = item.label, item.fault, item.data, b""
    if label is not None and not _is_unicode(label):
        label, fault = None, fault or "is in a class whose name is not UTF-8"
    width = height = number = 0
    if fault is None:
        try:
            data = item.read()
            jpeg = data.startswith(b"\xff\xd8")
            pixels = None if jpeg else np.asarray(images.decode(data))
            width, height = (
                fast_images.measure_jpeg(data) if pixels is None else images.dimensions(pixels)
            )
            number = digest(data, pixels)
            if max_side and max(width, height) > max_side:
                kept = shrink(
                    fast_images.decode(data) if pixels is None else pixels, max_side, jpeg
                )
        except FileNotFoundError:
            fault = "is missing"
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        except images.ImageError as error:
            fault = f"is not a whole image: {error}"
    row = Row(
        item.name, os.fspath(item.file or ""), item.start, item.length, item.split, label,
        fault, number, len(data), width, height, item.features,
    )  # fmt: skip
    return row, None if fault else kept


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
