"""One step of training AlexNet on a batch that lies on the device already, against PyTorch.

    python -m benchmarks.train_step [--dtype=float32] [--batch=64]

The same network (torchvision's, with dropout), loss and Adam with L2; the batch is uint8 pictures
of 225 px with permutations, which every contender normalises and shuffles in the step. On a CPU
`ssljax` has a device for each core, as its commands do, and `one_device` has one for all.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks import contenders
from ssljax.roofline.chips import CHIPS

SIZE, GRID = 225, 3
CONTENDERS = ["ssljax", "one_device", "torch_eager", "torch_channels_last", "torch_compiled"]
# At 225 px a forward pass has 0.71 billion multiply-adds, of two FLOPs each (convolutions 0.66,
# layers fc6 to fc8 0.05); backward twice that, but for the gradient of the first layer's input.
FLOPS_PER_IMAGE = 4.1e9


def _batch(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8),
        "permutation": np.stack([rng.permutation(GRID**2) for _ in range(batch)]).astype(np.int32),
        "mask": np.ones(batch, bool),
    }


def ssljax(**options: Any) -> contenders.Work:
    """As the commands set it up."""
    from ssljax.training.parallelism import split_cpu

    split_cpu(options["batch"])
    return one_device(**options)


def one_device(batch: int, dtype: str, steps: int, width: float) -> contenders.Work:
    """On a CPU: one device for all cores."""
    import jax

    from ssljax.config import train_config
    from ssljax.models import make_model
    from ssljax.tasks import make_task
    from ssljax.training.optimizers import make_optimizer
    from ssljax.training.parallelism import Parallelism
    from ssljax.training.steps import initial_state, make_train_step

    task = make_task({"name": "jigsaw", "grid": GRID, "tile": SIZE // GRID}, data_image_size=SIZE)
    model = make_model({"name": "alexnet", "dtype": dtype, "width": width}, task.num_outputs)
    optimizer = make_optimizer(train_config().optimizer, lambda step: 1e-4)
    parallelism = Parallelism("jit", batch)
    state = jax.jit(
        lambda: initial_state(model, optimizer, SIZE, 0), out_shardings=parallelism.replicated()
    )()
    step = parallelism.train_step(make_train_step(model, task, optimizer, 0))
    data = parallelism.put(_batch(batch))

    def work() -> int:
        nonlocal state
        for _ in range(steps):
            state, sums = step(state, data)
            if parallelism.serial:
                jax.block_until_ready(sums)
        jax.block_until_ready(state)
        return steps * batch

    return work


def torch_eager(**options: Any) -> contenders.Work:
    """PyTorch as it is by default."""
    return _torch(False, False, **options)


def torch_channels_last(**options: Any) -> contenders.Work:
    """PyTorch with channels last."""
    return _torch(True, False, **options)


def torch_compiled(**options: Any) -> contenders.Work:
    """PyTorch with channels last and `torch.compile`."""
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
        pictures = (data["image"].float() / 255 - 0.5) / 0.5
        tiles = pictures.reshape(batch, GRID, tile, GRID, tile, 3).transpose(2, 3)
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
    """Compares, and says what share of the peak the step reaches."""
    flags = ("batch", "steps", "width")
    parser = contenders.arguments(__doc__.partition("\n")[0], *flags)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--chip", choices=list(CHIPS), help="that it runs on, to compare with")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    results = contenders.compare(
        "benchmarks.train_step", CONTENDERS, options, "ssljax", "dtype", *flags
    )
    if options.chip and options.width == 1:
        rate = sorted(results["images_per_second"]["ssljax"])[options.rounds // 2]
        peak = CHIPS[options.chip].flops
        share = rate * FLOPS_PER_IMAGE / peak
        print(f"\nssljax reaches {share:.0%} of {peak / 1e12:g} TFLOP/s")


if __name__ == "__main__":
    main()
