"""A trained run as a library: load it, predict, extract features."""

from __future__ import annotations

import functools
import itertools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from ssljax.data import images as image_files
from ssljax.errors import InputError, nearest
from ssljax.training.checkpoints import Checkpoints
from ssljax.training.run import Run, make_run
from ssljax.training.run_folder import read_config

Picture = str | pathlib.Path | bytes | Image.Image | np.ndarray
BATCH = 64


class TrainedModel:
    """The parameters of a checkpoint with the run they belong to.

    Attributes:
      run: the config, the task, the model and the class names.
      params: parameters by layer.
      checkpoint: `best` or `latest`.
      step: the step of the checkpoint.
    """

    def __init__(self, run: Run, params: Any, checkpoint: str, step: int):
        self.run, self.params = run, params
        self.checkpoint, self.step = checkpoint, step
        self._outputs = jax.jit(self._forward)
        self._activations = jax.jit(functools.partial(self._forward, method="activations"))

    def _forward(self, params: Any, pixels: jax.Array, method: str | None = None) -> Any:
        images = self.run.task.normalize(pixels)
        return self.run.model.apply({"params": params}, images, method=method)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name for each output of a classification run."""
        return self.run.class_names

    def features(self, pictures: Iterable[Picture], layer: str = "fc7") -> np.ndarray:
        """Activations of a layer, after ReLU and pooling, for whole (unshuffled) pictures.

        Args:
          pictures: files, their bytes, Pillow images, or uint8[H, W, 3] arrays.
          layer: such as `conv5` (float32[N, h, w, channels]) or `fc7` (float32[N, features]).

        Raises:
          InputError: a picture cannot be read, or the model has no such layer.
        """
        if layer not in self.params:
            raise InputError(f"no layer {layer!r}; {nearest(layer, list(self.params))}")
        return self._over(pictures, lambda pixels: self._activations(self.params, pixels)[layer])

    def outputs(self, pictures: Iterable[Picture]) -> np.ndarray:
        """The last layer, float32[N, num_outputs]; a classification run's logits."""
        return self._over(pictures, lambda pixels: self._outputs(self.params, pixels))

    def classify(self, pictures: Sequence[Picture], top: int = 5) -> list[list[tuple[str, float]]]:
        """The likeliest classes of each picture with their probability, likeliest first.

        Raises:
          InputError: the run is no classification, or a picture cannot be read.
        """
        if not self.run.task.needs_labels:
            raise InputError(f"a run of the task {self.run.config.task.name} knows no classes")
        results = []
        for probabilities in np.asarray(jax.nn.softmax(self.outputs(pictures))):
            order = np.argsort(-probabilities, kind="stable")[:top]
            results.append([(self.class_names[i], float(probabilities[i])) for i in order])
        return results

    def _over(
        self, pictures: Iterable[Picture], function: Callable[[np.ndarray], jax.Array]
    ) -> np.ndarray:
        """Applies a function of uint8 batches; all but a lonely first one have the same size."""
        size = self.run.task.image_size
        pixels = iter(_pixels(picture, size) for picture in pictures)
        parts: list[np.ndarray] = []
        while batch := list(itertools.islice(pixels, BATCH)):
            count = len(batch)
            if parts:  # so that only one shape is compiled
                batch += [np.zeros_like(batch[0])] * (BATCH - count)
            parts.append(np.asarray(function(np.stack(batch))[:count], np.float32))
        if not parts:
            raise InputError("no pictures were given")
        return np.concatenate(parts)


def load_run(workdir: str | pathlib.Path, checkpoint: str = "") -> TrainedModel:
    """Loads a run folder's parameters; its data set is not needed.

    Args:
      checkpoint: `best`, `latest` or a step; empty is what the task hands over (the best one of a
        classification, the latest of a pretext task).

    Raises:
      InputError: no run folder, no such checkpoint, or a damaged one.
    """
    config = read_config(workdir)
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        from ssljax.tasks import TASKS

        name = config.task.name
        if name not in TASKS:
            raise InputError(f"{workdir}: unknown task {name!r}; {nearest(name, list(TASKS))}")
        kind, step = checkpoints.find(checkpoint or TASKS[name].hand_over)
        run = make_run(config, checkpoints.class_names(kind, step))
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            run.parameter_shapes(),
        )
        return TrainedModel(run, checkpoints.restore_params(kind, step, like), kind, step)
    finally:
        checkpoints.close()


def _pixels(picture: Picture, size: int) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
            raise InputError(f"expected uint8[H, W, 3], got {picture.dtype}{list(picture.shape)}")
        return image_files.square(Image.fromarray(picture), size, None)
    if isinstance(picture, Image.Image):
        return image_files.square(image_files.upright_rgb(picture), size, None)
    name = "the given bytes"
    if not isinstance(picture, bytes):
        name = str(picture)
        try:
            picture = pathlib.Path(picture).read_bytes()
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from error
    try:
        return image_files.square(image_files.decode(picture), size, None)
    except image_files.ImageError as error:
        raise InputError(f"{name} is not an image that can be read: {error}") from error
