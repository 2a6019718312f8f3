"""What the network sees of records in training: the inputs of any method, as images."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from ssljax.data import images
from ssljax.data.image_source import ImageSource
from ssljax.data.order import Step
from ssljax.data.read_batch import ReadBatch
from ssljax.data.records import Records
from ssljax.methods.method import Tree
from ssljax.report.thumbnails import Thumbnail, to_uint8
from ssljax.runs.run import Run
from ssljax.views.keys import record_keys


@dataclasses.dataclass(frozen=True)
class Seen:
    """A record, and what the network sees of it.

    Attributes:
      record: its number.
      label: the name of its class; empty if it has none.
      original: uint8[H, W, 3], the whole image.
      epochs: the images of each epoch with their names; the names are empty if there is only one.
    """

    record: int
    label: str
    original: np.ndarray
    epochs: tuple[tuple[Thumbnail, ...], ...]


def training_batch(run: Run, records: Records, epoch: int, count: int) -> tuple[Any, Tree]:
    """The first records as an epoch of training has them, and the network's inputs.

    They are those of the training step: the same crops and draws on the host, the same keys on the
    devices.

    Args:
      run: with the method.
      records: what it trains on.
      epoch: from 0.
      count: N, of the records.

    Returns:
      The batch, and float32[N, …] inputs.
    """
    config = run.config
    source = ImageSource(records, **run.image_options())
    read = ReadBatch(source, run.method.draw, config.seed, True, config.data.random_crop)
    batch = read(Step(epoch, np.arange(count), np.ones(count, bool)))

    def inputs(batch: Any) -> Tree:
        keys = record_keys(config.seed, epoch, batch["record"])
        return run.method.inputs(batch, keys, train=True)

    return batch, jax.jit(inputs)(batch)


def seen(run: Run, records: Records, epochs: int, count: int) -> list[Seen]:
    """What the network sees of the first records in the first epochs of training.

    Args:
      run: with the method.
      records: what it trains on.
      epochs: how many of them.
      count: of the records.

    Raises:
      InputError: a record cannot be read or decoded.
    """
    shown = []
    for epoch in range(epochs):
        batch, inputs = training_batch(run, records, epoch, count)
        shown.append(list(zip(*_images(inputs), strict=True)))
    names = run.class_names
    result = []
    for index, (data, _) in enumerate(records.read(range(count))):
        label = int(batch["label"][index])
        result.append(
            Seen(
                index,
                names[label] if 0 <= label < len(names) else "",
                np.asarray(images.decode(data)),
                tuple(
                    tuple(Thumbnail(to_uint8(x, run.method), name) for name, x in epoch[index])
                    for epoch in shown
                ),
            )
        )
    return result


def _images(inputs: Tree) -> list[list[tuple[str, np.ndarray]]]:
    """The images of a tree of inputs, a list over the records for each; other leaves are left out.

    An image is what ends in the dimensions height, width and 3.
    """
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(inputs)[0]:
        array = np.asarray(leaf)
        if array.ndim < 4 or array.shape[-1] != 3 or array.dtype.kind != "f":
            continue
        views = array.reshape(len(array), -1, *array.shape[-3:])
        group = " ".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
        for view in range(views.shape[1]):
            number = str(view + 1) if views.shape[1] > 1 else ""
            name = f"{group} {number}".strip()
            found.append([(name, image) for image in views[:, view]])
    return found
