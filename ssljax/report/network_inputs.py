"""What a network sees: the images of a split, as its method makes inputs of them for training."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.data import images
from ssljax.data.image_source import ImageSource
from ssljax.data.order import Step
from ssljax.data.read_batch import ReadBatch
from ssljax.data.records import Records
from ssljax.methods.method import Tree
from ssljax.report.thumbnails import Sheet, Thumbnail, to_uint8
from ssljax.runs.run import Run
from ssljax.views.keys import record_keys

_MOST = 12  # inputs of an image on a run's page


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
    devices. A method that mixes pairs of images gets whole pairs: the next records fill the last
    one, or the first again if there are no more.

    Args:
      run: with the method.
      records: what it trains on.
      epoch: from 0.
      count: N, of the records.

    Returns:
      The batch, and the inputs, float[N, …].
    """
    config = run.config
    source = ImageSource(records, **run.image_options())
    read = ReadBatch(source, run.method.draw, config.seed, True, config.data.random_crop)
    rows = -(-count // run.method.rows_together) * run.method.rows_together
    batch = read(Step(epoch, np.arange(rows) % len(records), np.ones(rows, bool)))

    def inputs(batch: Any) -> Tree:
        keys = record_keys(config.seed, epoch, batch["record"])
        return run.method.inputs(batch, keys, train=True)

    def first(leaf: np.ndarray) -> np.ndarray:
        return leaf[:count] if leaf.shape[:1] == (rows,) else leaf

    with jax.default_device(jax.local_devices()[0]):  # other processes do not take part
        made = jax.device_get(jax.jit(inputs)(batch))
    cut: tuple[Any, Tree] = jax.tree.map(first, (batch, made))
    return cut


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
        views = _views(inputs, count)
        names = list(views) if len(views) > 1 else [""]
        shown.append(
            [list(zip(names, row, strict=True)) for row in zip(*views.values(), strict=True)]
        )
    result = []
    for index, (data, _) in enumerate(records.read(range(count))):
        label = int(batch["label"][index])
        result.append(
            Seen(
                index,
                _class_name(run, label),
                np.asarray(images.decode(data)),
                tuple(
                    tuple(Thumbnail(to_uint8(x, run.method), name) for name, x in epoch[index])
                    for epoch in shown
                ),
            )
        )
    return result


def sheet(run: Run, split: str, count: int = 6) -> Sheet:
    """The first images of a split, each with its inputs in the first epoch of training.

    Inputs are all arrays float[B, …, H, W, 3] among those that the method makes.
    """
    records = run.records(split)
    count = min(count, len(records))
    batch, inputs = training_batch(run, records, 0, count)
    views = dict(itertools.islice(_views(inputs, count).items(), _MOST))
    groups = []
    for index in range(count):
        image, label = batch["image"][index], int(batch["label"][index])
        name = _class_name(run, label) or "image"
        shown = [
            Thumbnail(to_uint8(view[index], run.method), caption) for caption, view in views.items()
        ]
        if len(shown) == 1 and _same(shown[0].pixels, image):
            groups.append([Thumbnail(image, name)])
        else:
            groups.append([Thumbnail(image, name), *shown])
    note = "The first images for validation, and what the network gets of them in training."
    return Sheet("What the network sees", note, groups)


def _class_name(run: Run, label: int) -> str:
    return run.class_names[label] if 0 <= label < len(run.class_names) else ""


def _views(inputs: Any, count: int) -> dict[str, np.ndarray]:
    """float[B, H, W, 3] by caption."""
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator=" "), np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(inputs)
    ]
    leaves = [(name, leaf) for name, leaf in leaves if _is_image(leaf, count)]
    found = {}
    for name, leaf in leaves:
        flat = leaf.reshape(count, -1, *leaf.shape[-3:])
        for view in range(flat.shape[1]):
            number = str(view + 1) if flat.shape[1] > 1 else ""
            caption = " ".join(part for part in (name or "input", number) if part)
            found[caption] = flat[:, view].astype(np.float32)
    return found


def _is_image(leaf: np.ndarray, count: int) -> bool:
    return (
        leaf.ndim >= 4
        and leaf.shape[0] == count
        and leaf.shape[-1] == 3
        and min(leaf.shape[-3:-1]) > 1
        and jnp.issubdtype(leaf.dtype, jnp.floating)
    )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.abs(one.astype(int) - other).max() <= 1)
