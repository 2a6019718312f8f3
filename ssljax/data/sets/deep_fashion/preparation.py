"""Checks DeepFashion's folder and writes it as ArrayRecord."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from tqdm import tqdm

from ssljax.data import fast_images, images
from ssljax.data.prepared import PreparedSet, is_prepared, open_prepared
from ssljax.data.records import keep_labels
from ssljax.data.sets import writing
from ssljax.data.sets.deep_fashion.builder import NAME, named, split_photographs
from ssljax.data.sets.deep_fashion.lists import Photograph, read_listing
from ssljax.settings.errors import InputError

_NAMED = 10  # the number of bad images that are named
_PART = 64  # photographs that a thread checks at a time


def prepare(
    config: str,
    source: str | pathlib.Path,
    data_dir: str = "",
    name: str = NAME,
    skip_bad: bool = False,
) -> PreparedSet:
    """Checks DeepFashion's folder and writes a configuration of it, unless it is prepared already.

    Args:
      config: `slides` or `official`.
      source: the folder with the annotation lists and the photographs.
      data_dir: where to write; empty is TFDS's default.
      name: of the data set.
      skip_bad: leave out photographs that are missing or cannot be decoded.

    Returns:
      The prepared data set.

    Raises:
      InputError: whatever is wrong with the folder, before anything is written.
    """
    dataset = f"{name}/{config}"
    if is_prepared(dataset, data_dir):
        prepared = open_prepared(dataset, data_dir)
        skipped = prepared.metadata.get("skipped_images", [])
        without = f", without {len(skipped)} bad images" if skipped else ""
        print(f"{dataset} is prepared already{without}")
        return prepared
    listing = read_listing(source)
    bad = _check(listing.photographs)
    if bad and not skip_bad:
        raise InputError(f"{_describe(bad)}\nrepair them, or leave them out with --skip_bad_images")
    if bad:
        print(f"skipped: {_describe(bad)}")
    skipped = {photograph.name for photograph, _ in bad}
    for split, rows in split_photographs(listing.photographs, config).items():
        if all(row.name in skipped for row in rows):
            raise InputError(f"no image of the split {split} can be used; is {source} complete?")
    builder = named(name)(
        listing,
        skipped=skipped,
        progress=lambda rows, split: tqdm(rows, f"writing {split}", unit=" images", leave=False),
        config=config,
        data_dir=data_dir or None,
        file_format="array_record",
    )
    writing.prepare(builder)
    keep_labels(dataset, data_dir)
    return open_prepared(dataset, data_dir)


def _check(photographs: Sequence[Photograph]) -> list[tuple[Photograph, str]]:
    checked = find_bad_images(photographs, threads=os.cpu_count() or 1)
    bar = tqdm(checked, "checking", total=len(photographs), unit=" images", leave=False)
    return [(photograph, fault) for photograph, fault in bar if fault]


def _describe(bad: list[tuple[Photograph, str]]) -> str:
    lines = [f"{len(bad)} images cannot be used:" if len(bad) > 1 else "1 image cannot be used:"]
    lines += [f"  {photograph.path} {fault}" for photograph, fault in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"  … and {len(bad) - _NAMED} more")
    return "\n".join(lines)


def find_bad_images(
    photographs: Iterable[Photograph], threads: int
) -> Iterator[tuple[Photograph, str | None]]:
    """Decodes every photograph; yields each with what is wrong with it, or None."""
    rows = iter(photographs)
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        while True:
            # In parts: submitting single photographs would cost as much as decoding them, and the
            # pool would hold all of them at once.
            while len(waiting) < 2 * threads and (part := list(itertools.islice(rows, _PART))):
                waiting.append(pool.submit(lambda part: [(row, _fault(row)) for row in part], part))
            if not waiting:
                return
            yield from waiting.popleft().result()


def _fault(photograph: Photograph) -> str | None:
    try:
        fast_images.decode(photograph.path.read_bytes(), strict=True)  # Pillow decides on faults
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except images.ImageError as error:
        return f"is not a whole image: {error}"
    return None
