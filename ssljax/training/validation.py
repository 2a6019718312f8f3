"""Runs a network over every example of a split exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import optax

from ssljax.data import pipeline
from ssljax.data.image_source import ImageSource
from ssljax.devices.parallelism import Parallelism, place
from ssljax.runs.run import Run
from ssljax.training.metrics import MetricSums
from ssljax.training.step import make_evaluation_step


class Evaluator:
    """A compiled evaluation step and the split that it runs over."""

    def __init__(self, run: Run, images: ImageSource):
        self._run, self._images = run, images
        devices = jax.device_count()
        rows = run.evaluation_rows()
        if run.method.couples_examples:
            # Copies that fill a batch would be compared with each other.
            rows = min(rows, -(-len(images) // devices))
        self._batch_size = rows * devices
        self._parallelism = Parallelism(run.config.parallelism, self._batch_size)
        self._step = self._parallelism.evaluation_step(make_evaluation_step(run))

    def batches(self, weights: Mapping[str, Any]) -> Iterator[tuple[pipeline.HostBatch, Any, Any]]:
        """Evaluates batch by batch.

        Images that the method does not make views of are cropped at the centre, and the method
        draws the same for a record every time.
        Repeated examples have `mask` False.

        Args:
          weights: see `ssljax.training.state.TrainState.weights`.

        Yields:
          This process's part of the batch, the metric sums of the whole batch, and the outputs of
          the whole batch, arrays [B, …] (see `ssljax.devices.parallelism.own_rows`).
        """
        config, method = self._run.config, self._run.method
        replicated = self._parallelism.replicated()
        weights = jax.tree.map(lambda leaf: place(leaf, replicated), dict(weights))
        host = pipeline.batches(
            self._images,
            method.draw,
            batch_size=self._batch_size,
            epochs=1,
            seed=config.seed,
            train=False,
            threads=config.data.threads,
            workers=config.data.workers,
        )
        ready = pipeline.DevicePrefetch(host, lambda batch: (batch, self._parallelism.put(batch)))
        for batch, on_devices in ready:
            sums, outputs = self._step(weights, on_devices)
            if self._parallelism.serial:
                jax.block_until_ready(sums)
            yield batch, sums, outputs

    def metrics(
        self, weights: Mapping[str, Any], stop: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """The loss and the method's metrics over the split, and the teacher's distance.

        Args:
          weights: see `batches`.
          stop: called after every batch; it raises to end early.
        """
        total = MetricSums()
        for _, sums, _ in self.batches(weights):
            total.add(jax.device_get(sums))
            stop()
        return {**total.means(), **_teacher_distance(weights)}


def _teacher_distance(weights: Mapping[str, Any]) -> dict[str, float]:
    """How far the teacher's parameters are from the trained ones, as a share of their norm."""
    if not weights["teacher"]:
        return {}
    distance = _relative_distance(weights["params"], weights["teacher"]["params"])
    return {"teacher_distance": float(distance)}


@jax.jit  # one program; without it, XLA compiles some for each parameter
def _relative_distance(own: Any, other: Any) -> jax.Array:
    difference = jax.tree.map(lambda a, b: a - b, own, other)
    return optax.tree.norm(difference) / optax.tree.norm(own)
