"""A trained run as a library: load it, classify images, extract features."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ssljax.data import given_images
from ssljax.data.decoder import Decoder
from ssljax.data.given_images import GivenImages, ImageLike
from ssljax.data.image_source import ImageSource
from ssljax.methods import method_class
from ssljax.methods.method import Method
from ssljax.models.network import variables
from ssljax.runs.feature_extraction import FeatureExtractor, layer_names
from ssljax.runs.folder import read_config
from ssljax.runs.run import Run, make_run
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings.errors import InputError

BATCH = 64


class FeatureBatch(NamedTuple):
    """What `TrainedModel.feature_batches` yields.

    Attributes:
      features: float32[n, …].
      labels: int32[n]; negative ones are those of `ssljax.data.given_images`.
    """

    features: np.ndarray
    labels: np.ndarray


class TrainedModel:
    """The weights of a checkpoint with the run they belong to.

    Attributes:
      run: the config, the method, the network and the class names.
      parts: `params`, `stats`, `teacher` and `memory`, nested dicts of arrays; {} for what the run
        does not have.
      checkpoint: `best` or `latest`.
      step: of the checkpoint.
      layer_names: of the backbone.
    """

    def __init__(self, run: Run, parts: dict[str, Any], checkpoint: str, step: int):
        self.run, self.parts = run, parts
        self.checkpoint, self.step = checkpoint, step
        network, method = run.evaluation_network(), run.method

        def outputs(params: Any, stats: Any, pixels: jax.Array) -> Any:
            inputs = method.normalize(pixels)
            return network.apply(variables(params, stats), inputs, method=method.outputs)

        self._outputs: Callable[..., Any] = jax.jit(outputs)
        self._extractors: dict[str, tuple[FeatureExtractor, Any]] = {}  # and weights, by layer
        self.layer_names = layer_names(run)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters by part: `backbone`, then the heads."""
        return self.parts["params"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the run's data set; one name for each output of a classification."""
        return self.run.class_names

    def pixels(self, image: ImageLike) -> np.ndarray:
        """The part of an image that the network sees: the centre square, resized.

        Args:
          image: a file, its bytes, a Pillow image, or a uint8[H, W, 3] array.

        Returns:
          uint8[S, S, 3]; `features`, `outputs` and `classify` also take it.

        Raises:
          InputError: the image cannot be read.
        """
        decoder = Decoder(self.run.method.image_size, self.run.config.data.decoding)
        return given_images.read_square(image, decoder)

    def features(self, images: ImageLike | Iterable[ImageLike], layer: str = "") -> np.ndarray:
        """The outputs of a layer of the backbone, after ReLU and pooling.

        The other images do not influence an image's features, but its place in the batch may
        change their last bits. Batches are as large as in evaluation, so that the same images in
        the same order have the same bits in both.

        Args:
          images: see `pixels`; one is the same as a list of one.
          layer: such as `conv5` (float32[N, h, w, channels]) or `fc7` (float32[N, features]);
            empty is the last one.

        Raises:
          InputError: an image cannot be read, the backbone has no such layer, or its outputs are
            not finite.
        """
        several = given_images.several(images)
        size, decoding = self.run.method.image_size, self.run.config.data.decoding
        parts: list[np.ndarray] = []
        for some in [several] if isinstance(several, Sequence) else self._chunks(several):
            found = self.feature_batches(GivenImages(some, size, decoding), layer)
            parts += [batch.features for batch in found]
        if not parts:
            raise InputError("no images were given")
        return np.concatenate(parts)

    def _chunks(self, images: Iterable[ImageLike]) -> Iterator[list[ImageLike]]:
        remaining = iter(images)
        while chunk := list(itertools.islice(remaining, self._batch_size)):
            yield chunk

    def feature_batches(self, images: ImageSource, layer: str = "") -> Iterator[FeatureBatch]:
        """The features of every image, in order, in bounded memory.

        Args:
          images: such as `Run.images(split)`.
          layer: see `features`.

        Raises:
          InputError: see `features`.
        """
        if layer not in self._extractors:
            extractor = FeatureExtractor(self.run, layer, self.devices)
            weights = extractor.place(self.params, self.parts["stats"])
            self._extractors[layer] = extractor, weights
        extractor, weights = self._extractors[layer]
        for batch, found in extractor.batches(weights, images):
            count = int(batch["mask"].sum())
            self._check_finite(found)
            yield FeatureBatch(found[:count], batch["label"][:count].copy())

    @property
    def devices(self) -> list[jax.Device]:
        """The devices that features are computed on: as many as the run had, if there are."""
        devices = jax.local_devices()
        if devices[0].platform == "cpu":
            devices = devices[: max(1, self.run.config.cpu_devices)]
        return devices

    @property
    def _batch_size(self) -> int:
        return self.run.evaluation_rows() * len(self.devices)

    def outputs(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """The network's outputs, float32[N, …]; the logits of a classification.

        Args:
          images: see `pixels`; one is the same as a list of one.

        Raises:
          InputError: an image cannot be read, the outputs are not finite, or the method makes
            inputs of its own from an image, such as views or shuffled tiles.
        """
        method = self.run.method
        if type(method).inputs is not Method.inputs and not method.names_classes:
            raise InputError(
                f"{self.run.config.method.name} makes inputs of its own from an image, and its "
                "outputs are those of them; use `features`"
            )
        return self._over(
            images, lambda pixels: self._outputs(self.params, self.parts["stats"], pixels)
        )

    def classify(
        self, images: ImageLike | Iterable[ImageLike], top: int = 5
    ) -> list[list[tuple[str, float]]]:
        """The most likely classes of each image with their probabilities, in descending order.

        Args:
          images: see `pixels`; one is the same as a list of one.
          top: the number of classes.

        Raises:
          InputError: the run does not classify, an image cannot be read, or the outputs are not
            finite.
        """
        if not self.run.method.names_classes:
            raise InputError(
                f"a run of the method {self.run.config.method.name} does not name classes; use "
                "one of classification"
            )
        results = []
        for probabilities in np.asarray(jax.nn.softmax(self.outputs(images))):
            order = np.argsort(-probabilities, kind="stable")[:top]
            results.append([(self.class_names[i], float(probabilities[i])) for i in order])
        return results

    def _over(
        self,
        images: ImageLike | Iterable[ImageLike],
        function: Callable[[np.ndarray], jax.Array],
    ) -> np.ndarray:
        """Applies a function to uint8 batches; all but a single first one have the same size."""
        pixels = map(self.pixels, given_images.several(images))
        parts: list[np.ndarray] = []
        while batch := list(itertools.islice(pixels, BATCH)):
            count = len(batch)
            if parts:  # so that only one shape is compiled
                batch += [np.zeros_like(batch[0])] * (BATCH - count)
            parts.append(np.asarray(function(np.stack(batch))[:count], np.float32))
        if not parts:
            raise InputError("no images were given")
        result = np.concatenate(parts)
        self._check_finite(result)
        return result

    def _check_finite(self, outputs: np.ndarray) -> None:
        if not np.isfinite(outputs).all():
            raise InputError(
                f"the outputs of the {self.checkpoint} checkpoint, step {self.step}, are not "
                "finite: the run has diverged; train again with a lower optimizer.learning_rate"
            )


def load_run(workdir: str | pathlib.Path, checkpoint: str = "") -> TrainedModel:
    """Loads the weights of a run folder; the run's data set is not needed.

    The run may be training: if it replaces the checkpoint meanwhile, the next one is loaded.

    Args:
      workdir: the run folder.
      checkpoint: `best`, `latest` or a step; empty: the one that the method hands over (the best
        one of a classification, the latest one of a pretext task).

    Raises:
      InputError: there is no run folder, no such checkpoint, or it is damaged.
      OSError: the system cannot read it now.
    """
    config = read_config(workdir)
    checkpoints = SavedCheckpoints(workdir)

    def read(kind: str, step: int) -> TrainedModel:
        run = make_run(config, checkpoints.class_names(kind, step))
        run = dataclasses.replace(run, own_data=False)
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        params, stats = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            run.variable_shapes(),
        )
        parts = checkpoints.restore_parts(kind, step, {"params": params, "stats": stats})
        parts |= checkpoints.restore_as_saved(kind, step, ("teacher", "memory"))
        return TrainedModel(run, parts, kind, step)

    hand_over = method_class(config.method.name).hand_over
    return checkpoints.read(checkpoint or checkpoints.handed_over(hand_over), read)
