"""Writes the images of an index as a TFDS data set of ArrayRecord files."""

from __future__ import annotations

import array
import concurrent.futures
import io
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from ssljax.data.beside import keep
from ssljax.data.sets.index import Index, Row
from ssljax.settings.errors import InputError

VERSION = "1.0.0"
_SHARD_BYTES = 2**29
_AT_ONCE = 512  # images that are held in memory
_AT_ONCE_BYTES = 2**25
_NO_LABEL = -1


def write(
    folder: pathlib.Path,
    dataset: str,
    index: Index,
    class_names: Sequence[str],
    features: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Writes every usable image of an index, in the order of `Index.split`.

    Args:
      folder: an empty folder.
      dataset: `name` or `name/config`.
      index: has a split for each image.
      class_names: in the order of the labels; empty if the data set has no labels.
      features: TFDS's types of the records' further features.
      metadata: kept with the data set.

    Raises:
      OSError: an image can no longer be read, or the folder cannot be written.
    """
    name, _, config = dataset.partition("/")
    labels = {"label": tfds.features.ClassLabel(names=list(class_names))} if class_names else {}
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=name, version=tfds.core.Version(VERSION), data_dir=str(folder), module_name="",
            config_name=config or None,
        ),
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(None, None, 3)), **labels,
             "filename": tfds.features.Text(), **features}
        ),
        supervised_keys=("image", "label") if class_names else None,
        metadata=tfds.core.MetadataDict(metadata),
    )  # fmt: skip
    splits = index.splits()
    count = index.count("fault is null")
    length = index.count_bytes() // max(count, 1) + 1
    shard = max(1, _SHARD_BYTES // length)
    writer = tfds.core.SequentialWriter(info, shard, file_format="array_record")
    writer.initialize_splits(splits)
    number = {label: position for position, label in enumerate(class_names)}
    with tqdm(total=count, desc="writing", unit=" images", leave=False) as bar:
        for split in splits:
            kept = {"label": array.array("q"), "digest": array.array("q")}
            for rows, images in _read(index.split(split)):
                numbers = [_NO_LABEL if row.label is None else number[row.label] for row in rows]
                writer.add_examples(
                    {
                        split: [
                            {
                                "image": io.BytesIO(data),
                                "filename": row.name,
                                **row.features,
                                **({"label": label} if class_names else {}),
                            }
                            for row, data, label in zip(rows, images, numbers, strict=True)
                        ]
                    }
                )
                kept["label"].extend(numbers)
                kept["digest"].extend(row.digest for row in rows)
                bar.update(len(rows))
            writer.close_splits([split])
            for key in ["label", "digest"] if class_names else ["digest"]:
                _keep(info.splits[split].filepaths, shard, key, kept[key])


def _keep(files: Sequence[Any], shard: int, key: str, values: Sequence[int]) -> None:
    """Writes the values of a split's records next to its files."""
    for position, file in enumerate(files):
        part = values[position * shard : (position + 1) * shard]
        keep(os.fspath(file), key, np.asarray(part, np.int64))


def _read(rows: Iterator[Row]) -> Iterator[tuple[list[Row], list[bytes]]]:
    """Yields the bytes of the rows, a few at a time; the next ones are read in the meantime."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def following() -> tuple[list[Row], concurrent.futures.Future]:
            part: list[Row] = []
            size = 0
            for row in itertools.islice(rows, _AT_ONCE):
                part.append(row)
                size += row.bytes
                if size > _AT_ONCE_BYTES:
                    break
            return part, pool.submit(lambda: [_bytes(row) for row in part])

        part, images = following()
        while part:
            after = following()
            yield part, images.result()
            part, images = after


def _bytes(row: Row) -> bytes:
    with open(row.file, "rb") as file:
        file.seek(row.start)
        data = file.read(-1 if row.length is None else row.length)
    if row.length is None and len(data) != row.bytes:
        raise InputError(f"{row.file} has changed while the data set was prepared; start again")
    return data
