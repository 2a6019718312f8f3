"""Compares MAE's training step with steps of the same vision transformer on all patches.

    python -m benchmarks.masked_step [--batch=64] [--model=vit_tiny] [--size=32]

`mae` is the whole step of the recipe, with 75 % of the patches masked. `one_masked` is the same
with a single masked patch, so its backbone computes with the others. `classification` has all
patches, a class token and a linear head, and no decoder. All have AdamW, and views are made in the
step. `images/s` counts images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import contenders
from benchmarks.repeated_steps import repeated

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CONTENDERS = ["mae", "one_masked", "classification"]
CLASSES = 10
_STEPS_PER_EPOCH = 1000  # does not affect the speed


def mae(model: str, size: int, **options: Any) -> contenders.Work:
    """Three quarters of the patches are masked."""
    return _work(_config("mae", model, size), **options)


def one_masked(model: str, size: int, **options: Any) -> contenders.Work:
    """One patch is masked."""
    config = _config("mae", model, size)
    config.method.mask_ratio = 0.5 / (size // config.model.patch) ** 2
    return _work(config, **options)


def classification(model: str, size: int, **options: Any) -> contenders.Work:
    """All patches, and a linear head instead of a decoder."""
    config = _config("mae", model, size)
    labels = _config("classification", model, size)
    labels.optimizer, labels.method.views = config.optimizer, config.method.views
    return _work(labels, **options)


def _config(method: str, model: str, size: int) -> ConfigDict:
    from ssljax.settings import config_files

    config = config_files.load(f"configs/pretrain.py:method={method},model={model},data=prepared")
    if size <= 64:  # the recipe for small images
        small = config_files.load(f"configs/pretrain.py:method={method},model={model}")
        config.method, config.model = small.method, small.model
    config.data.dataset, config.data.image_size = "made_up", size
    return config


def _work(config: ConfigDict, batch: int, steps: int) -> contenders.Work:
    from ssljax.devices import cpu
    from ssljax.runs.config import complete, cpu_devices, resolve
    from ssljax.runs.run import make_run
    from ssljax.training.run_step import make_run_step

    config.batch_size = batch
    cpu.split(cpu_devices(complete(config)))
    run = make_run(resolve(config), tuple(map(str, range(CLASSES))))
    run_step = make_run_step(run, _STEPS_PER_EPOCH)
    data = run_step.parallelism.put(_batch(batch, run.method.delivered_size))
    return repeated(run_step, data, steps, batch)


def _batch(batch: int, side: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (batch, side, side, 3), np.uint8),
        "height": np.full(batch, side, np.int32),
        "width": np.full(batch, side, np.int32),
        "label": rng.integers(0, CLASSES, batch, np.int32),
        "record": np.arange(batch, dtype=np.int32),
        "mask": np.ones(batch, bool),
    }


def main() -> None:
    """Runs the comparison."""
    parser = contenders.arguments(__doc__.partition("\n")[0], "batch", "steps")
    parser.add_argument("--model", default="vit_tiny", help="vit_tiny, vit_small or vit_base")
    parser.add_argument("--size", type=int, default=32, help="side of the images, in pixels")
    options = parser.parse_args()
    flags = ("model", "size", "batch", "steps")
    contenders.compare("benchmarks.masked_step", CONTENDERS, options, "mae", *flags)


if __name__ == "__main__":
    main()
