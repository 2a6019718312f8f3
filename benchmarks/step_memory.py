"""Prints the memory that a training step needs with micro-batches, or with `model.remat`.

    python -m benchmarks.step_memory [--batch=1024] [--micro_batches=1,4,16] [--width=1]
    python -m benchmarks.step_memory --model=vit_tiny --size=32 [--batch=256]

The first command is for AlexNet on 3×3 puzzles of 225 px; the second one compares a ResNet or a
vision transformer (`benchmarks.class_task`) with and without `model.remat`. The step is for one
device, and is compiled and not run. XLA reports how much memory it allocates besides the state and
the batch. What grows with the batch are the activations.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import jax

from benchmarks import class_task, puzzle_task
from ssljax.roofline.step import compile_step

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def temporary_bytes(config: ConfigDict) -> int:
    """The bytes that XLA allocates for a step on one device, besides its inputs and outputs."""
    return compile_step(config, jax.devices()[:1], class_task.CLASSES).memory.temporaries


def micro_batches(batch: int, numbers: list[int], width: float) -> None:
    """Prints a table with a row for each number of micro-batches."""
    print("| micro-batches | memory, GiB |\n| --- | --- |")
    for number in numbers:
        config = puzzle_task.config(batch, width)
        config.gradient_accumulation_steps = number
        print(f"| {number} | {temporary_bytes(config) / 2**30:.2f} |", flush=True)


def remat(model: str, size: int, batch: int, width: float) -> None:
    """Prints a table with a row for each value of `model.remat`."""
    print("| `model.remat` | activations, KiB per image | images in 1 GiB |\n| --- | --- | --- |")
    for value in (False, True):
        needed = []
        for images in (batch // 4, batch):
            config = class_task.config(model, size, images, width)
            config.model.remat = value
            needed.append(temporary_bytes(config))
        per_image = (needed[1] - needed[0]) / (batch - batch // 4)
        row = f"| {value} | {per_image / 2**10:,.0f} | {2**30 / per_image:,.0f} |"
        print(row, flush=True)


def main() -> None:
    """Prints one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1024, help="images in a step")
    parser.add_argument("--micro_batches", default="1,4,16", help="comma-separated")
    parser.add_argument("--width", type=float, default=1.0, help="relative to the original")
    parser.add_argument("--model", default="", help="a ResNet or vision transformer of ssljax")
    parser.add_argument("--size", type=int, default=32, help="side of its images, in pixels")
    options = parser.parse_args()
    if options.model:
        remat(options.model, options.size, options.batch, options.width)
    else:
        numbers = [int(number) for number in options.micro_batches.split(",")]
        micro_batches(options.batch, numbers, options.width)


if __name__ == "__main__":
    main()
