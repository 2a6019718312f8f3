"""Runs a model over every example of a split exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax

from ssljax.data import pipeline
from ssljax.data.pictures import Pictures
from ssljax.training.metrics import MetricSums
from ssljax.training.parallelism import Parallelism, place
from ssljax.training.run import Run
from ssljax.training.steps import make_evaluation_step


class Evaluator:
    """A compiled evaluation step and the split that it runs over."""

    def __init__(self, run: Run, pictures: Pictures):
        self._run, self._pictures = run, pictures
        # No more at once than training has, whose memory that is meant for; rounded up to the
        # devices of this machine, which need not be the one that trained.
        config, devices = run.config, jax.device_count()
        micro_batch = -(-config.batch_size // config.gradient_accumulation_steps)
        self._batch_size = -(-micro_batch // devices) * devices
        self._parallelism = Parallelism(run.config.parallelism, self._batch_size)
        self._step = self._parallelism.evaluation_step(make_evaluation_step(run.model, run.task))

    def batches(self, params: Any) -> Iterator[tuple[pipeline.HostBatch, Any, jax.Array]]:
        """Yields this process's part of each batch, the whole batch's metric sums, and outputs.

        The outputs, float32[B, …], are the whole batch's, see `own_rows`.

        Padded examples have `mask` False. Pictures are cropped at the centre, and the task draws
        the same for a record every time.
        """
        config = self._run.config
        replicated = self._parallelism.replicated()
        params = jax.tree.map(lambda leaf: place(leaf, replicated), params)
        host = pipeline.batches(
            self._pictures,
            self._run.task,
            batch_size=self._batch_size,
            epochs=1,
            seed=config.seed,
            train=False,
            threads=config.data.threads,
            workers=config.data.workers,
        )
        ready = pipeline.DevicePrefetch(host, lambda batch: (batch, self._parallelism.put(batch)))
        for batch, on_devices in ready:
            sums, outputs = self._step(params, on_devices)
            if self._parallelism.serial:
                jax.block_until_ready(sums)
            yield batch, sums, outputs

    def metrics(self, params: Any, stop: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The loss and the task's metrics over the split.

        Args:
          stop: called after every batch; raises to end early.
        """
        total = MetricSums()
        for _, sums, _ in self.batches(params):
            total.add(jax.device_get(sums))
            stop()
        return total.means()
