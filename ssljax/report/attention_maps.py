"""Where a vision transformer looks: the attention of its last block, over validation images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from ssljax.data.records import Records
from ssljax.models import model_class
from ssljax.models.network import variables
from ssljax.models.vit import ViT
from ssljax.report.feature_sample import evenly_spaced, images_for
from ssljax.report.thumbnails import Sheet, Thumbnail
from ssljax.runs.run import Run

_IMAGES = 12
_DARK = 0.2  # what is left of the brightness without attention


def has_attention(run: Run) -> bool:
    """Whether the backbone is a vision transformer with a block before the last one."""
    config = run.config.model
    return issubclass(model_class(config.name), ViT) and config.depth > 1


def sheet(name: str, run: Run, params: Any, records: Records) -> Sheet:
    """Images, and the same images as bright as the attention.

    Args:
      name: of the run, for the title.
      run: see `has_attention`.
      params: its parameters by part.
      records: of a split; some of them are shown.
    """
    images = images_for(run, evenly_spaced(records, _IMAGES))
    pixels = np.empty((len(images), images.size, images.size, 3), np.uint8)
    for (data, _), out in zip(images.read(range(len(images))), pixels, strict=True):
        images.square(data, None, out)
    network = run.evaluation_network()

    @jax.jit
    def look(params: Any, pixels: jax.Array) -> Any:
        inputs = run.method.normalize(pixels)
        return network.apply(variables(params, {}), inputs, method="attention")

    with jax.default_device(jax.local_devices()[0]):  # other processes do not take part
        maps = np.asarray(look(jax.device_get(params), pixels))
    return Sheet(
        f"Attention of {name}",
        "The attention of the last block, the mean over its heads: "
        + (
            "of the class token to the patches."
            if run.config.model.class_token
            else "of all patches to each patch."
        ),
        _groups(pixels, maps),
    )


def _groups(pixels: np.ndarray, maps: np.ndarray) -> Sequence[Sequence[Thumbnail]]:
    """Pairs of an image and its attention, uint8[N, S, S, 3] and float32[N, rows, columns]."""
    groups = []
    for image, attention in zip(pixels, maps, strict=True):
        large = Image.fromarray(attention / attention.max()).resize(image.shape[1::-1])
        brightness = _DARK + (1 - _DARK) * np.asarray(large)[..., None]
        shown = (image * np.clip(brightness, 0, 1)).astype(np.uint8)
        groups.append([Thumbnail(image, "image"), Thumbnail(shown, "attention")])
    return groups
