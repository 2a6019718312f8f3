"""Compares AlexNet's training step with PyTorch's, on a batch that is already on the device.

    python -m benchmarks.train_step [--dtype=float32] [--batch=64]

All contenders train torchvision's AlexNet with dropout, the same loss, and Adam with L2. The batch
has uint8 images of 225 px and permutations. Normalising the images and shuffling their tiles is
part of the step.

On a CPU, `ssljax` uses as many devices as the commands do, `one_device` uses one device for all
cores, and `device_per_core` uses one device for each core.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import contenders
from benchmarks.repeated_steps import repeated
from ssljax.roofline.chips import CHIPS

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SIZE, GRID = 225, 3
CONTENDERS = [
    "ssljax",
    "one_device",
    "device_per_core",
    "torch_eager",
    "torch_channels_last",
    "torch_compiled",
]
# At 225 px a forward pass has 0.71 billion multiply-adds of two FLOPs each (convolutions 0.66,
# layers fc6 to fc8 0.05). The backward pass has twice as many, except that the first layer needs no
# gradient of its input.
FLOPS_PER_IMAGE = 4.1e9
_STEPS_PER_EPOCH = 1000  # does not affect the speed


def jigsaw_config(batch: int, width: float, dtype: str = "auto") -> ConfigDict:
    """The config of 3×3 puzzles with AlexNet.

    Args:
      batch: the batch size.
      width: of AlexNet.
      dtype: `float32`, `bfloat16` or `auto`.
    """
    from ssljax.settings import config_files

    config = config_files.load("configs/jigsaw.py:3x3")
    config.batch_size, config.model.width, config.model.dtype = batch, width, dtype
    return config


def ssljax(**options: Any) -> contenders.Work:
    """The step as the commands set it up."""
    return on_devices(0, **options)


def one_device(**options: Any) -> contenders.Work:
    """The step on one device."""
    return on_devices(1, **options)


def device_per_core(**options: Any) -> contenders.Work:
    """The step on one CPU device for each core."""
    from ssljax.devices import cpu

    return on_devices(cpu.cores(), **options)


def on_devices(devices: int, batch: int, dtype: str, steps: int, width: float) -> contenders.Work:
    """The step on a number of devices; 0 uses as many as the commands do."""
    import jax

    from ssljax.devices import cpu
    from ssljax.runs.config import complete, cpu_devices, resolve
    from ssljax.runs.run import make_run
    from ssljax.training.run_step import make_run_step

    config = jigsaw_config(batch, width, dtype)
    config.cpu_devices = devices
    cpu.split(cpu_devices(complete(config)))
    found = jax.devices()
    if devices > len(found):
        raise SystemExit(f"{devices} devices are needed, but there are {len(found)}")
    run = make_run(resolve(config), class_names=())
    run_step = make_run_step(run, _STEPS_PER_EPOCH, found[: devices or None])
    return repeated(run_step, run_step.parallelism.put(_batch(batch)), steps, batch)


def _batch(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8),
        "permutation": np.stack([rng.permutation(GRID**2) for _ in range(batch)]).astype(np.int32),
        "label": np.full(batch, -1, np.int32),
        "record": np.arange(batch, dtype=np.int32),
        "mask": np.ones(batch, bool),
    }


def torch_eager(**options: Any) -> contenders.Work:
    """PyTorch with its default memory format."""
    return _torch(False, False, **options)


def torch_channels_last(**options: Any) -> contenders.Work:
    """PyTorch with the memory format channels_last."""
    return _torch(True, False, **options)


def torch_compiled(**options: Any) -> contenders.Work:
    """PyTorch with the memory format channels_last and `torch.compile`."""
    return _torch(True, True, **options)


def _torch(
    channels_last: bool, compiled: bool, batch: int, dtype: str, steps: int, width: float
) -> contenders.Work:
    import torch
    from torch import nn

    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def of(channels: int) -> int:
        return max(1, round(channels * width))

    layers: list[nn.Module] = []
    inputs = 3
    for channels, kernel, stride, padding, pool in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False),
        (256, 3, 1, 1, False), (256, 3, 1, 1, True),
    ):  # fmt: skip
        layers += [nn.Conv2d(inputs, of(channels), kernel, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if pool else []
        inputs = of(channels)
    layers += [nn.AdaptiveAvgPool2d(6), nn.Flatten()]
    layers += [nn.Dropout(), nn.Linear(36 * inputs, of(4096)), nn.ReLU(inplace=True)]
    layers += [nn.Dropout(), nn.Linear(of(4096), of(4096)), nn.ReLU(inplace=True)]
    model = nn.Sequential(*layers, nn.Linear(of(4096), 2 * GRID**2))
    model = model.to(device=device, memory_format=layout)
    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, weight_decay=1e-3, **fused)
    data = {key: torch.from_numpy(value).to(device) for key, value in _batch(batch).items()}
    tile = SIZE // GRID

    def loss() -> torch.Tensor:
        images = (data["image"].float() / 255 - 0.5) / 0.5
        tiles = images.reshape(batch, GRID, tile, GRID, tile, 3).transpose(2, 3)
        tiles = tiles.reshape(batch, GRID**2, tile, tile, 3)
        order = data["permutation"].long()
        tiles = tiles[torch.arange(batch, device=device)[:, None], order]
        tiles = tiles.reshape(batch, GRID, GRID, tile, tile, 3).transpose(2, 3)
        images = tiles.reshape(batch, SIZE, SIZE, 3).permute(0, 3, 1, 2).contiguous(
            memory_format=layout
        )  # fmt: skip
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            outputs = model(images)
        cells = torch.stack([order // GRID, order % GRID], -1) * (2 / (GRID - 1)) - 1
        return ((outputs.float() - cells.reshape(batch, -1)) ** 2).mean()

    forward = torch.compile(loss) if compiled else loss

    def work() -> int:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            forward().backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return steps * batch

    return work


def main() -> None:
    """Runs the comparison, and prints the share of the chip's peak that is reached."""
    flags = ("batch", "steps", "width")
    parser = contenders.arguments(__doc__.partition("\n")[0], *flags)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--chip", choices=list(CHIPS), help="print the share of this chip's peak that is reached"
    )
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    results = contenders.compare(
        "benchmarks.train_step", CONTENDERS, options, "ssljax", "dtype", *flags
    )
    if options.chip and options.width == 1 and "ssljax" in results["images_per_second"]:
        rate = sorted(results["images_per_second"]["ssljax"])[options.rounds // 2]
        peak = CHIPS[options.chip].flops
        share = rate * FLOPS_PER_IMAGE / peak
        print(f"\nssljax reaches {share:.0%} of {peak / 1e12:g} TFLOP/s")


if __name__ == "__main__":
    main()
