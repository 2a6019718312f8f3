"""What training reports: means over intervals and epochs, the rate, and the progress line."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssljax.data.pipeline import DevicePrefetch
from ssljax.runs.metrics_log import MetricsLog
from ssljax.settings.errors import Diverged, InputError
from ssljax.training.metrics import MetricSums
from ssljax.training.progress import Progress


class TrainingLog:
    """Collects the sums of the steps and writes the log of the run.

    Attributes:
      metrics: the rows.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        config: ConfigDict,
        steps_per_epoch: int,
        step: int,
        sums: Mapping[str, Any],
    ):
        """Continues at a step with the sums that `to_json` returned there."""
        self._steps_per_epoch = steps_per_epoch
        self.metrics = MetricsLog(workdir, step, sums.get("unwritten", ()))
        self._progress = Progress(
            workdir.name, config.epochs * steps_per_epoch, config.epochs, config.batch_size
        )
        self._interval = MetricSums(sums.get("interval"))
        # The checkpoint is written before the validation, which begins new sums.
        self._epoch = MetricSums({} if self.validated(step) else sums.get("epoch_sums"))
        self._restored = f"{workdir}: the checkpoint of step {step}" if step else ""
        self._pending: list[tuple[int, Any]] = []  # sums that are still on the devices
        self._images = 0.0
        self._start = (0.0, 0.0)

    def to_json(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint, and a row that could not be written."""
        self.collect()
        sums = {"interval": self._interval.to_json(), "epoch_sums": self._epoch.to_json()}
        unwritten = self.metrics.unwritten
        return {**sums, "unwritten": unwritten} if unwritten else sums

    def add(self, step: int, sums: Any, in_flight: int) -> None:
        """Adds a step's sums and waits until at most `in_flight` steps are not finished.

        That keeps the devices busy, and an interruption does not have to wait long.
        """
        self._pending.append((step, sums))
        jax.block_until_ready(self._pending[-in_flight:][0][1])

    def collect(self) -> None:
        """Fetches the sums from the devices.

        Raises:
          Diverged: one is not finite.
          InputError: the sums of the restored checkpoint are of other metrics.
        """
        for step, sums in self._pending:
            sums = jax.device_get(sums)
            if self._restored:
                for key, old in (("interval", self._interval), ("epoch_sums", self._epoch)):
                    if name := old.stranger(sums):
                        raise InputError(
                            f"{self._restored} is damaged: {key} of data/metadata must have the "
                            f"sums of this run's metrics, but not so {name:.50}; remove its folder "
                            "to continue from the checkpoint before"
                        )
                self._restored = ""
            for name in ("loss", "gradient_norm"):
                if not np.isfinite(sums[name][0]):
                    what = "loss" if name == "loss" else "norm of the gradient"
                    raise Diverged(f"the {what} of step {step} is {sums[name][0]}")
            self._images += float(sums["loss"][1])
            self._interval.add(sums)
            self._epoch.add(sums)
        self._pending = []

    def start_interval(self, batches: DevicePrefetch) -> None:
        """Starts to measure the rate and the time spent waiting for input."""
        self.collect()
        self._start = (time.perf_counter(), batches.waited)
        self._images = 0.0

    def interval(
        self,
        step: int,
        learning_rate: float,
        norms: Mapping[str, jax.Array],
        batches: DevicePrefetch,
    ) -> None:
        """Writes the means since the last row, and the norms of the last step.

        Raises:
          OSError: they cannot be written; `to_json` has them.
        """
        self.collect()
        start, waited = self._start
        seconds = max(time.perf_counter() - start, 1e-9)
        # An interval of only the step that compiles has no rate.
        rate = self._images / seconds
        waiting = (batches.waited - waited) / seconds
        means, self._interval = self._interval.means(), MetricSums()
        row = {
            "epoch": step / self._steps_per_epoch,
            "learning_rate": learning_rate,
            **means,
            **{name: float(norm) for name, norm in norms.items()},
            "images_per_second": rate,
            "input_wait": waiting,
        }
        self.metrics.write("train", step, row)
        epoch = -(-step // self._steps_per_epoch)
        self._progress.show(step, epoch, means["loss"], rate, waiting)
        self.start_interval(batches)

    def validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of a validation and those of training since the last one."""
        epoch = step // self._steps_per_epoch
        means, self._epoch = self._epoch.means(), MetricSums()
        train = {f"train_{name}": means[name] for name in metrics if name in means}
        self.metrics.write("validation", step, {"epoch": epoch, **metrics, **train})
        self._progress.validated(epoch, dict(metrics))

    def probes(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes what probes found."""
        epoch = step // self._steps_per_epoch
        self.metrics.write("probe", step, {"epoch": epoch, **metrics})
        self._progress.validated(epoch, dict(metrics), "probes")

    def probed(self, step: int) -> set[str]:
        """The names of what probes found after this step, as far as it was written."""
        rows = [row for row in self.metrics.rows if row["kind"] == "probe" and row["step"] == step]
        return {name for row in rows for name in row}

    def validated(self, step: int) -> bool:
        """Whether a validation of this step was written."""
        return any(row["step"] == step for row in self.metrics.validations())

    def close(self) -> None:
        """Flushes and closes everything."""
        self.metrics.close()
        self._progress.close()
