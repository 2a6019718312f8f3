"""Compares the training loop of any method with its step alone, on the embedded Fashion-MNIST.

    python -m benchmarks.loop --method=simclr [--model=resnet18] [--width=0.25] [--steps=20]

`loop` is `ssljax.training.loop.train` with the method's recipe. Its rate comes from the metrics
log, see `benchmarks.logged_run`. `step` trains on one batch that is already on the device.
`benchmarks.end_to_end` does the same for puzzles of photographs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks import contenders
from benchmarks.logged_run import logged
from benchmarks.repeated_steps import repeated

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CONTENDERS = ["loop", "step"]


def loop(folder: str, **options: Any) -> contenders.Work:
    """Trains a run of one epoch in a new folder."""
    config = _config(folder, **options)
    _split(config)
    return logged(config, folder)


def step(folder: str, **options: Any) -> contenders.Work:
    """Trains on the first batch of the run."""
    from ssljax.data import pipeline
    from ssljax.runs.config import resolve
    from ssljax.runs.run import open_run
    from ssljax.training.run_step import make_run_step

    config = _config(folder, **options)
    _split(config)
    run = open_run(resolve(config))
    run_step = make_run_step(run, steps_per_epoch=options["steps"] + 1)
    batch = next(
        pipeline.batches(
            run.images(config.data.train_split), run.method.draw, batch_size=config.batch_size,
            epochs=1, seed=0, train=True, count_repeated=run.method.couples_examples,
        )
    )  # fmt: skip
    return repeated(run_step, run_step.parallelism.put(batch), options["steps"], config.batch_size)


def _config(
    folder: str, method: str, model: str, batch: int, steps: int, width: float
) -> ConfigDict:
    from ssljax.settings import config_files

    config = config_files.load(f"configs/pretrain.py:method={method},model={model}")
    config.data.data_dir = os.path.join(folder, "tfds")
    config.data.train_split = f"images[:{(steps + 1) * batch}]"
    config.data.validation_split = "images[-64:]"
    config.model.width, config.batch_size, config.epochs = width, batch, 1
    config.log_every_steps = max(1, steps // 4)
    config.schedule.warmup_epochs = 0
    config.probes.map_images = 0
    return config


def _split(config: ConfigDict) -> None:
    from ssljax.devices import cpu
    from ssljax.runs.config import complete, cpu_devices

    cpu.split(cpu_devices(complete(config)))


def main() -> None:
    """Runs the comparison."""
    flags = ("batch", "steps", "width")
    parser = contenders.arguments(__doc__.partition("\n")[0], *flags)
    parser.add_argument("--method", default="simclr", help="an entry of configs/pretrain.py")
    parser.add_argument("--model", default="resnet18", help="an entry of configs/pretrain.py")
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    contenders.compare(
        "benchmarks.loop", CONTENDERS, options, "loop", "folder", "method", "model", *flags
    )


if __name__ == "__main__":
    main()
