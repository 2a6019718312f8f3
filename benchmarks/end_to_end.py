"""Compares the training loop with its step alone and its input pipeline alone.

    python -m benchmarks.end_to_end [--width=1] [--steps=3] [--workers=0]

`loop` is `ssljax.training.loop.train` on a prepared data set. Its rate comes from the metrics log,
which excludes compilation, checkpoints and validation. `step` trains on one batch that is already
on the device. `input` reads the same batches and discards them.
"""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks import contenders, input_pipeline, puzzle_task, train_step
from benchmarks.logged_run import logged

CONTENDERS = ["loop", "step", "input"]


def loop(
    folder: str,
    images: int,
    batch: int,
    steps: int,
    width: float,
    decoding: str,
    threads: int,
    workers: int,
) -> contenders.Work:
    """Trains a run of one epoch in a new folder."""
    from ssljax.devices import cpu
    from ssljax.runs.config import complete, cpu_devices

    config = puzzle_task.config(batch, width)
    config.data.dataset = "deep_fashion/official"
    config.data.data_dir = input_pipeline.prepared(folder, images)
    config.data.train_split = f"train[:{(steps + 1) * batch}]"
    config.data.validation_split = config.data.test_split = f"validation[:{batch}]"
    config.data.decoding = decoding
    config.data.threads, config.data.workers = threads, workers
    config.epochs = 1
    config.log_every_steps = 1 if steps < 8 else steps // 4
    cpu.split(cpu_devices(complete(config)))

    return logged(config, folder)


def step(batch: int, steps: int, width: float, **others: Any) -> contenders.Work:
    """Trains on one batch, see `benchmarks.train_step`."""
    del others
    return train_step.ssljax(batch=batch, dtype="auto", steps=steps, width=width)


def input(
    folder: str, images: int, batch: int, decoding: str, threads: int, workers: int, **others: Any
) -> contenders.Work:
    """Reads batches, see `benchmarks.input_pipeline`."""
    del others
    return input_pipeline.ssljax(
        decoding, folder=folder, images=images, threads=threads, workers=workers, batch=batch
    )


def main() -> None:
    """Generates the photographs and runs the comparison."""
    flags = ("images", "batch", "steps", "width", "threads")
    parser = contenders.arguments(__doc__.partition("\n")[0], *flags)
    parser.add_argument(
        "--decoding", choices=("exact", "fast"), default="exact", help="data.decoding"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="reader processes, used instead of threads"
    )
    options = parser.parse_args()
    from benchmarks.photographs import deep_fashion

    deep_fashion(pathlib.Path(options.folder), options.images)
    contenders.compare(
        "benchmarks.end_to_end", CONTENDERS, options, "loop",
        "folder", "decoding", "workers", *flags,
    )  # fmt: skip


if __name__ == "__main__":
    main()
