"""What a network sees: the first images of a split, as its method makes inputs of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.data.order import Step
from ssljax.data.read_batch import ReadBatch
from ssljax.report.thumbnails import Sheet, Thumbnail, to_uint8
from ssljax.runs.run import Run
from ssljax.views.keys import record_keys

_MOST = 12  # inputs of an image


def sheet(run: Run, split: str, count: int = 6) -> Sheet:
    """The first images of a split, each with its inputs in the first epoch of training.

    Inputs are all arrays float[B, …, H, W, 3] among those that the method makes.
    """
    config, method = run.config, run.method
    images = run.images(split)
    records = np.arange(min(count, len(images)))
    read = ReadBatch(images, method.draw, config.seed, True, config.data.random_crop)
    batch = read(Step(0, records, np.ones(len(records), bool)))

    @jax.jit
    def make(batch: Any) -> Any:
        return method.inputs(batch, record_keys(config.seed, 0, batch["record"]), train=True)

    with jax.default_device(jax.local_devices()[0]):  # other processes do not take part
        inputs = jax.device_get(make(batch))
    views = _views(inputs, len(records))
    groups = []
    for index in records:
        image, label = batch["image"][index], int(batch["label"][index])
        name = run.class_names[label] if 0 <= label < len(run.class_names) else "image"
        shown = [
            Thumbnail(to_uint8(view[index], method), caption) for caption, view in views.items()
        ]
        if len(shown) == 1 and _same(shown[0].pixels, image):
            groups.append([Thumbnail(image, name)])
        else:
            groups.append([Thumbnail(image, name), *shown])
    note = "The first images for validation, and what the network gets of them in training."
    return Sheet("What the network sees", note, groups)


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
    return dict(list(found.items())[:_MOST])


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
