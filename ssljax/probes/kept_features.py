"""Features that are kept in a run folder, so that the next probe need not compute them again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib

import jax
import numpy as np

from ssljax.data.image_source import ImageSource
from ssljax.files import storage, untrusted
from ssljax.files.new_file import new_file
from ssljax.models import paths
from ssljax.runs.trained_model import TrainedModel


def file_of(
    folder: pathlib.Path, model: TrainedModel, layer: str, images: ImageSource
) -> pathlib.Path | None:
    """Where the features of some images are kept: `probes/features-KEY.npy` in a run folder.

    The key is a digest of all that the features depend on: the weights, the network, the layer, and
    the files that the images are read from.

    Args:
      folder: the run folder.
      model: of the run, or with random weights.
      layer: its name.
      images: of a split.

    Returns:
      None if nothing can be kept, because the run or the data set is in a bucket, or several
      processes compute the features.
    """
    parts = images.records.source.parts
    remote = storage.is_remote(folder) or any(storage.is_remote(part.filename) for part in parts)
    if remote or jax.process_count() > 1:
        return None
    config, digest = model.run.config, hashlib.sha256()
    for part in ("params", "stats"):
        for path, leaf in sorted(paths.flatten(model.parts[part]).items()):
            digest.update(f"{part} {path} {leaf.shape} {leaf.dtype}".encode())
            digest.update(np.ascontiguousarray(leaf).data)
    about = {
        "layer": layer,
        "model": config.model.to_dict(),
        "image": [model.run.method.image_size, *config.data.mean, *config.data.std],
        "decoding": config.data.decoding,
        "image_key": images.records.image_key,
        "records": [
            [part.filename, part.skip, part.length, _when(part.filename)] for part in parts
        ],
    }
    digest.update(json.dumps(about).encode())
    return folder / "probes" / f"features-{digest.hexdigest()[:32]}.npy"


def _when(filename: str) -> list[int]:
    status = os.stat(filename)
    return [status.st_size, status.st_mtime_ns]


def read(file: pathlib.Path, count: int) -> np.ndarray | None:
    """float32[count, D]; None if they are not there, or not what `write` writes."""
    values = None if file.is_symlink() else untrusted.read_array(file, np.float32, 2)
    if values is None or len(values) != count or not np.isfinite(values).all():
        return None
    return values


def write(file: pathlib.Path, values: np.ndarray) -> None:
    """Keeps features; does nothing if they cannot be written."""
    if file.parent.is_symlink():  # in a stranger's folder
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        with new_file(file) as new:
            np.save(new, values, allow_pickle=False)
            new.flush()
            os.fsync(new.fileno())
