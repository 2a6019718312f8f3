"""Computes the features of images: what a layer of the backbone gives for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ssljax.data import pipeline
from ssljax.data.image_source import ImageSource
from ssljax.data.read_batch import HostBatch
from ssljax.devices.parallelism import Parallelism, own_rows, place
from ssljax.models.network import Network, variables
from ssljax.runs.run import Run
from ssljax.settings.errors import InputError, nearest


def layer_names(run: Run) -> tuple[str, ...]:
    """The layers of a run's backbone, in their order."""
    network, method = run.evaluation_network(), run.method
    names: list[str] = []
    size = method.image_size
    pixels = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)

    def look(params: Any, stats: Any, pixels: jax.Array) -> Any:
        given, inputs = variables(params, stats), method.normalize(pixels)
        found: Any = network.apply(given, inputs, method=Network.layers)
        names[:] = found  # jax sorts the keys of what a function returns
        return found

    jax.eval_shape(look, *run.variable_shapes(), pixels)
    return tuple(names)


class FeatureExtractor:
    """The compiled computation of a layer's features."""

    def __init__(self, run: Run, layer: str = "", devices: Sequence[jax.Device] | None = None):
        """Features are those of evaluation: with running statistics, without dropout.

        Args:
          run: its method, network and config.
          layer: of the backbone; empty is the last one.
          devices: None takes all devices of all processes.

        Raises:
          InputError: the backbone has no such layer.
        """
        names = layer_names(run)
        name = layer or names[-1]
        if name not in names:
            raise InputError(f"no layer {name!r}; {nearest(name, names)}")
        network, method, data = run.evaluation_network(), run.method, run.config.data
        self._batch_size = run.evaluation_rows() * len(devices or jax.devices())
        self._parallelism = Parallelism("jit", self._batch_size, devices=devices)
        self._reading = {"threads": data.threads, "workers": data.workers}

        def step(weights: Any, batch: Any) -> tuple[Any, Any]:
            inputs = method.normalize(batch["image"])
            layers: Any = network.apply(variables(*weights), inputs, method=Network.layers)
            return {}, layers[name]

        self._step = self._parallelism.evaluation_step(step)

    def place(self, params: Any, stats: Any) -> Any:
        """Copies a network's weights to the devices."""
        replicated = self._parallelism.replicated()
        return jax.tree.map(lambda leaf: place(leaf, replicated), (params, stats))

    def batches(self, weights: Any, images: ImageSource) -> Iterator[tuple[HostBatch, np.ndarray]]:
        """The features of every image, in order, in bounded memory.

        Args:
          weights: from `place`.
          images: squares of the method's `image_size`.

        Yields:
          This process's part of a batch, whose repeated images have `mask` False, and its features,
          float32[b, …].
        """
        if not len(images):
            return
        host = pipeline.batches(
            images,
            draw_nothing,
            batch_size=self._batch_size,
            epochs=1,
            seed=0,
            train=False,
            **self._reading,
        )
        put = self._parallelism.put
        ready = pipeline.DevicePrefetch(host, lambda batch: (batch, put({"image": batch["image"]})))
        for batch, on_devices in ready:
            yield batch, own_rows(self._step(weights, on_devices)[1]).astype(np.float32)


def draw_nothing(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """For `pipeline.batches`: features need no random draws."""
    return {}
