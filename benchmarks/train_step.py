"""Compares a training step with PyTorch's, on a batch that is already on the device.

    python -m benchmarks.train_step [--dtype=float32] [--batch=64]
    python -m benchmarks.train_step --model=resnet18 --size=32 [--width=0.25]

All contenders train the same network with the same loss, and Adam with L2, on uint8 images:
torchvision's AlexNet with dropout on puzzles of 225 px (`benchmarks.puzzle_task`), or torchvision's
ResNet or timm's vision transformer on classes (`benchmarks.class_task`).

On a CPU, `ssljax` uses as many devices as the commands do, `one_device` uses one device for all
cores, and `device_per_core` uses one device for each core.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks import class_task, contenders, puzzle_task
from benchmarks.repeated_steps import repeated
from ssljax.roofline.chips import CHIPS

if TYPE_CHECKING:
    import torch

CONTENDERS = [
    "ssljax",
    "one_device",
    "device_per_core",
    "torch_eager",
    "torch_channels_last",
    "torch_compiled",
]
# At 225 px AlexNet's forward pass has 0.71 billion multiply-adds of two FLOPs each (convolutions
# 0.66, layers fc6 to fc8 0.05). The backward pass has twice as many, except that the first layer
# needs no gradient of its input.
FLOPS_PER_IMAGE = 4.1e9
_STEPS_PER_EPOCH = 1000  # does not affect the speed


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


def on_devices(
    devices: int,
    batch: int,
    dtype: str,
    steps: int,
    width: float,
    model: str = "alexnet",
    size: int = 32,
) -> contenders.Work:
    """The step on a number of devices; 0 uses as many as the commands do."""
    import jax

    from ssljax.devices import cpu
    from ssljax.runs.config import complete, cpu_devices, resolve
    from ssljax.runs.run import make_run
    from ssljax.training.run_step import make_run_step

    if model == "alexnet":
        config, class_names = puzzle_task.config(batch, width, dtype), puzzle_task.CLASS_NAMES
        data = puzzle_task.data(batch)
    else:
        config = class_task.config(model, size, batch, width, dtype)
        data, class_names = class_task.data(batch, size), class_task.CLASS_NAMES
    config.cpu_devices = devices
    cpu.split(cpu_devices(complete(config)))
    found = jax.devices()
    if devices > len(found):
        raise SystemExit(f"{devices} devices are needed, but there are {len(found)}")
    run = make_run(resolve(config), class_names)
    run_step = make_run_step(run, _STEPS_PER_EPOCH, found[: devices or None])
    return repeated(run_step, run_step.parallelism.put(data), steps, batch)


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
    channels_last: bool,
    compiled: bool,
    batch: int,
    dtype: str,
    steps: int,
    width: float,
    model: str,
    size: int,
) -> contenders.Work:
    import torch

    if model == "alexnet":
        network, arrays = puzzle_task.torch_network(width), puzzle_task.data(batch)
        loss_of = puzzle_task.torch_loss
    else:
        network, arrays = class_task.torch_network(model, size, width), class_task.data(batch, size)
        loss_of = class_task.torch_loss
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(device=device, memory_format=layout)
    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, weight_decay=1e-3, **fused)
    data = {key: torch.from_numpy(value).to(device) for key, value in arrays.items()}

    def outputs(images: torch.Tensor) -> torch.Tensor:
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            return network(images)

    def loss() -> torch.Tensor:
        return loss_of(outputs, data)

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
    parser.add_argument(
        "--model", default="alexnet", help="alexnet, or a ResNet or vision transformer of ssljax"
    )
    parser.add_argument(
        "--size", type=int, default=32, help="side of the images of other models, in pixels"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--chip",
        choices=list(CHIPS),
        help="print the share of this chip's peak that AlexNet reaches",
    )
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    results = contenders.compare(
        "benchmarks.train_step", CONTENDERS, options, "ssljax", "dtype", "model", "size", *flags
    )
    whole = options.model == "alexnet" and options.width == 1
    if options.chip and whole and "ssljax" in results["images_per_second"]:
        rate = sorted(results["images_per_second"]["ssljax"])[options.rounds // 2]
        peak = CHIPS[options.chip].flops
        share = rate * FLOPS_PER_IMAGE / peak
        print(f"\nssljax reaches {share:.0%} of {peak / 1e12:g} TFLOP/s")


if __name__ == "__main__":
    main()
