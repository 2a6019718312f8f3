"""The command that trains on a prepared data set."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import TYPE_CHECKING

from ssljax.files import storage
from ssljax.settings.printable import quoted

if TYPE_CHECKING:
    from ssljax.data.prepared import PreparedSet

_BOUNDS = {1: ("", "90%", ""), 2: ("", "80%", "90%", "")}  # by how many splits are missing


def parts_of_train(splits: Collection[str]) -> dict[str, str]:
    """Which parts of `train` to take for `train` itself and for each split that is missing.

    They share no images: a test set on which the best checkpoint was chosen measures nothing, and
    commands refuse to test on images that were trained on. `prepare` writes images in random order,
    so that each part has some of all classes.

    Args:
      splits: those of a data set; `train` is one of them.

    Returns:
      TFDS's spelling of each part, by what it is for; empty if no split is missing.
    """
    missing = [split for split in ("validation", "test") if split not in splits]
    if not missing:
        return {}
    bounds = itertools.pairwise(_BOUNDS[len(missing)])
    return {
        split: f"train[{start}:{stop}]"
        for split, (start, stop) in zip(("train", *missing), bounds, strict=True)
    }


def next_command(prepared: PreparedSet, data_dir: str) -> list[str]:
    """The lines of the command that trains on a prepared data set, ready to be typed.

    Args:
      prepared: it has a split `train`.
      data_dir: as `prepare` got it.

    Raises:
      InputError: data_dir is no place for data sets.
    """
    from ssljax.data.prepared import default_folder

    root = storage.path(data_dir or default_folder(), "--data_dir")
    dataset = prepared.folder.parent.relative_to(root).as_posix()
    words = [
        "python -m ssljax.train --config=configs/pretrain.py:method=jigsaw,data=prepared",
        f"--workdir=runs/{dataset.partition('/')[0]} --config.data.dataset={dataset}",
    ]
    if data_dir:
        words.append(f"--config.data.data_dir={quoted(data_dir)}")
    for split, part in parts_of_train(prepared.splits).items():
        # Quoted, because a shell takes [ ] for a pattern of files' names.
        words.append(quoted(f"--config.data.{split}_split={part}"))
    first, *rest = words
    *lines, last = [first, *(f"    {word}" for word in rest)]
    return [*(f"{line} \\" for line in lines), last]
