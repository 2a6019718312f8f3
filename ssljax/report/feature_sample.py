"""Some validation images with their features, for what a page shows of a feature space."""

from __future__ import annotations

import base64
import dataclasses
import io
from typing import Any

import jax
import numpy as np
from PIL import Image

from ssljax.data.image_source import ImageSource
from ssljax.data.records import Records
from ssljax.probes.features import flat
from ssljax.runs.feature_extraction import FeatureExtractor
from ssljax.runs.run import Run

COLUMNS = 40  # thumbnails in a row of the sheet
SIDE = 36  # of a thumbnail, in pixels


@dataclasses.dataclass(frozen=True)
class Sample:
    """Images of a split.

    Attributes:
      thumbnails: uint8[N, SIDE, SIDE, 3].
      labels: int[N]; negative ones are unknown.
      class_names: one for each label; empty if the data set has no labels.
      features: float32[N, D], of length 1.
    """

    thumbnails: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    features: np.ndarray


def evenly_spaced(records: Records, count: int) -> Records:
    """At most so many records, with equal steps between them."""
    if len(records) <= count:
        return records
    places = np.linspace(0, len(records) - 1, count).astype(int)
    chosen = places if records.chosen is None else records.chosen[places]
    return dataclasses.replace(records, chosen=chosen)


def images_for(run: Run, records: Records) -> ImageSource:
    """The images of records as the network of a run sees them."""
    return ImageSource(records, run.method.image_size, run.config.data.decoding)


def draw(run: Run, params: Any, stats: Any, images: ImageSource) -> Sample:
    """The features of a network, computed on this process's devices.

    Args:
      run: with the network.
      params: its parameters by part.
      stats: its batch statistics by part.
      images: see `images_for`.
    """
    extractor = FeatureExtractor(run, devices=jax.local_devices())
    thumbnails, labels, features = [], [], []
    for batch, found in extractor.batches(extractor.place(params, stats), images):
        counts = batch["mask"] == 1
        thumbnails += [_thumbnail(pixels) for pixels in batch["image"][counts]]
        labels.append(batch["label"][counts])
        features.append(flat(found)[counts])
    values = np.concatenate(features)
    lengths = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    names = images.records.class_names
    return Sample(np.array(thumbnails), np.concatenate(labels), names, values / lengths)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def style(sample: Sample) -> str:
    """A style sheet with all thumbnails in one image; the class `thumbnail` shows them.

    The place of an image is set by `place`.
    """
    count = len(sample.thumbnails)
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, SIDE, SIDE, 3), np.uint8)
    sheet[:count] = sample.thumbnails
    grid = sheet.reshape(rows, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    file = io.BytesIO()
    Image.fromarray(grid.reshape(rows * SIDE, -1, 3)).save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f"<style>.thumbnail {{ width: {SIDE}px; height: {SIDE}px; display: inline-block; "
        f"background-image: url(data:image/jpeg;base64,{data}) }}</style>"
    )


def place(index: int) -> str:
    """The CSS property that makes a `thumbnail` show an image."""
    row, column = divmod(index, COLUMNS)
    return f"background-position: {-column * SIDE}px {-row * SIDE}px"
