"""The real loop on real records, against its step alone and its input alone.

    python -m benchmarks.end_to_end [--width=1] [--steps=8]

`loop` is `ssljax.training.loop.train` on a prepared data set, timed by its own metrics, that is
without compilation, checkpoints and validation; `step` trains on one batch that is on the device
already; `input` reads the same batches and throws them away.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from typing import Any

from benchmarks import contenders, input_pipeline, train_step

CONTENDERS = ["loop", "step", "input"]


def loop(
    folder: str, images: int, batch: int, steps: int, width: float, decoding: str, threads: int
) -> contenders.Work:
    """A run of one epoch in a new folder."""
    from ssljax import config_files
    from ssljax.training.loop import train
    from ssljax.training.parallelism import split_cpu
    from ssljax.training.run_folder import read_metrics

    split_cpu(batch)
    config = config_files.load("configs/jigsaw.py:3x3")
    config.data.dataset = "deep_fashion/official"
    config.data.data_dir = input_pipeline.prepared(folder, images)
    config.data.train_split = f"train[:{(steps + 1) * batch}]"
    config.data.validation_split = config.data.test_split = f"validation[:{batch}]"
    config.data.decoding, config.data.threads = decoding, threads
    config.epochs, config.batch_size, config.model.width = 1, batch, width
    config.log_every_steps = 1 if steps < 8 else steps // 4

    def work() -> tuple[int, float]:
        scratch = tempfile.mkdtemp(dir=folder)
        try:
            train(config, pathlib.Path(scratch, "run"))
            rows = [r for r in read_metrics(pathlib.Path(scratch, "run")) if r["kind"] == "train"]
        finally:
            shutil.rmtree(scratch)
        done, seconds, before = 0, 0.0, 1  # the first step compiles, and is in no interval
        for row in rows:
            if row["images_per_second"]:
                done += (row["step"] - before) * batch
                seconds += (row["step"] - before) * batch / row["images_per_second"]
                before = row["step"]
        return done, seconds

    return work


def step(batch: int, steps: int, width: float, **others: Any) -> contenders.Work:
    """See `benchmarks.train_step`."""
    del others
    return train_step.ssljax(batch=batch, dtype="auto", steps=steps, width=width)


def input(
    folder: str, images: int, batch: int, decoding: str, threads: int, **others: Any
) -> contenders.Work:
    """See `benchmarks.input_pipeline`."""
    del others
    contender = input_pipeline.fast if decoding == "fast" else input_pipeline.exact
    return contender(folder=folder, images=images, threads=threads, batch=batch)


def main() -> None:
    """Compares."""
    parser = contenders.arguments(__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8, help="in a turn")
    parser.add_argument("--width", type=float, default=1.0, help="of AlexNet")
    parser.add_argument("--decoding", choices=("exact", "fast"), default="exact")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    from benchmarks.photographs import deep_fashion

    deep_fashion(pathlib.Path(options.folder), options.images)
    contenders.compare(
        "benchmarks.end_to_end",
        CONTENDERS,
        options,
        against="loop",
        **{key: getattr(options, key) for key in
           ("folder", "images", "batch", "steps", "width", "decoding", "threads")},
    )  # fmt: skip


if __name__ == "__main__":
    main()
