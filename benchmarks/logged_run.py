"""A contender that trains a whole run, and takes its rate from the metrics log."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING

from benchmarks import contenders

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def logged(config: ConfigDict, folder: str) -> contenders.Work:
    """What trains a run in a new folder, and removes it.

    The rate excludes compilation, checkpoints and validation.

    Args:
      config: of the run.
      folder: in which the new folder is made.
    """
    from ssljax.runs.metrics_log import read_metrics
    from ssljax.training.loop import train

    def work() -> tuple[int, float]:
        scratch = tempfile.mkdtemp(dir=folder)
        try:
            train(config, pathlib.Path(scratch, "run"))
            rows = [r for r in read_metrics(pathlib.Path(scratch, "run")) if r["kind"] == "train"]
        finally:
            shutil.rmtree(scratch)
        done, seconds, before = 0, 0.0, 1  # no interval includes the first step, which compiles
        for row in rows:
            if row["images_per_second"]:
                images = (row["step"] - before) * config.batch_size
                done += images
                seconds += images / row["images_per_second"]
                before = row["step"]
        return done, seconds

    return work
