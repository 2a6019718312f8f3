"""DeepFashion's photographs, divided as the Bern group did or as published.

* `slides`: within each category the first 70 % of its rows, in listing order and regardless of the
  partition, go to the pretext task and the rest to classification; each side keeps the official
  partition. Splits `pretext_train`, `pretext_validation`, `pretext_test`, `train`, `validation`,
  `test`.
* `official`: the three official partitions `train`, `validation`, `test`.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from ssljax.data.sets.deep_fashion.lists import Photograph, read_listing
from ssljax.data.sets.source import Item, Source, inside


def open_deep_fashion(folder: pathlib.Path, config: str) -> Source:
    """Reads and checks the lists.

    Args:
      folder: see `ssljax.data.sets.deep_fashion.lists`.
      config: `slides` or `official`.

    Raises:
      InputError: whatever is wrong with the lists.
    """
    import tensorflow_datasets as tfds

    listing = read_listing(folder)

    def items() -> Iterator[Item]:
        for split, photograph in split_photographs(listing.photographs, config):
            _, fault = inside(listing.root, photograph.name)
            yield Item(
                photograph.name,
                photograph.path,
                split=split,
                label=listing.class_names[photograph.label],
                fault=fault,
                features={"bbox": photograph.bbox},
            )

    boxes = tfds.features.Tensor(
        shape=(4,), dtype=np.int32, doc="x_1, y_1, x_2, y_2 in pixels, as listed"
    )
    return Source(
        f"DeepFashion, Category and Attribute Prediction, splits {config}",
        items,
        listing.class_names,
        {"bbox": boxes},
        len(listing.photographs),
    )


def split_photographs(
    photographs: Iterable[Photograph], config: str
) -> Iterator[tuple[str, Photograph]]:
    """Yields the photographs, each with its split of a configuration."""
    rows = list(photographs)
    count = collections.Counter(row.label for row in rows)
    seen: collections.Counter[int] = collections.Counter()
    for row in rows:
        # ⌊0.7·n⌋ in integers, because a float product can be just below a whole number.
        pretext = config == "slides" and seen[row.label] < count[row.label] * 7 // 10
        seen[row.label] += 1
        yield f"{'pretext_' * pretext}{row.partition}", row
