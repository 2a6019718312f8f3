"""Prints the memory that a training step needs for different numbers of micro-batches.

    python -m benchmarks.step_memory [--batch=1024] [--micro_batches=1,4,16] [--width=1]

The step trains AlexNet on 3×3 puzzles of 225 px, on one device. It is compiled and not run. XLA
reports how much memory it allocates besides the state and the batch, mostly for activations and
gradients.
"""

from __future__ import annotations

import argparse

import jax

from benchmarks import puzzle_task
from ssljax.roofline.step import compile_step


def temporary_bytes(batch_size: int, gradient_accumulation_steps: int, width: float) -> int:
    """The bytes that XLA allocates for a step on one device, besides its inputs and outputs.

    Args:
      batch_size: images in a step.
      gradient_accumulation_steps: the number of micro-batches.
      width: of AlexNet.
    """
    config = puzzle_task.config(batch_size, width)
    config.gradient_accumulation_steps = gradient_accumulation_steps
    return compile_step(config, jax.devices()[:1]).memory.temporaries


def main() -> None:
    """Prints a table with a row for each number of micro-batches."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1024, help="images in a step")
    parser.add_argument("--micro_batches", default="1,4,16", help="comma-separated")
    parser.add_argument(
        "--width", type=float, default=1.0, help="width of AlexNet, relative to the original"
    )
    options = parser.parse_args()
    print("| micro-batches | memory, GiB |\n| --- | --- |")
    for steps in map(int, options.micro_batches.split(",")):
        taken = temporary_bytes(options.batch, steps, options.width)
        print(f"| {steps} | {taken / 2**30:.2f} |", flush=True)


if __name__ == "__main__":
    main()
