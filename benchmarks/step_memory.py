"""How much memory a training step takes, by the micro-batches that it is taken in.

    python -m benchmarks.step_memory [--batch=1024] [--micro_batches=1,4,16] [--width=1]

AlexNet on 3×3 puzzles of 225 px, on one device. The step is compiled and not run: XLA says what it
will allocate beside the state and the batch, activations and gradients above all.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np

from ssljax.config import train_config
from ssljax.models import make_model
from ssljax.tasks import make_task
from ssljax.training.optimizers import make_optimizer
from ssljax.training.parallelism import Parallelism
from ssljax.training.steps import initial_state, make_train_step

SIZE, GRID = 225, 3


def temporary_bytes(batch_size: int, gradient_accumulation_steps: int, width: float) -> int:
    """What XLA allocates for a step, on one device, beside its inputs and outputs."""
    config = train_config()
    task = make_task({"name": "jigsaw", "grid": GRID, "tile": SIZE // GRID}, data_image_size=SIZE)
    model = make_model({"name": "alexnet", "width": width}, task.num_outputs)
    optimizer = make_optimizer(config.optimizer, lambda step: 1e-4)
    state = jax.eval_shape(lambda: initial_state(model, optimizer, SIZE, seed=0))
    batch = {
        "image": jax.ShapeDtypeStruct((batch_size, SIZE, SIZE, 3), np.uint8),
        "permutation": jax.ShapeDtypeStruct((batch_size, GRID**2), np.int32),
        "mask": jax.ShapeDtypeStruct((batch_size,), np.bool_),
    }
    steps = gradient_accumulation_steps
    parallelism = Parallelism("jit", batch_size, steps, jax.devices()[:1])
    step: Any = parallelism.train_step(make_train_step(model, task, optimizer, 0, steps))
    compiled = step.lower(state, batch).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def main() -> None:
    """Prints a row for each number of micro-batches."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--micro_batches", default="1,4,16", help="comma-separated")
    parser.add_argument("--width", type=float, default=1.0, help="of AlexNet")
    options = parser.parse_args()
    print("| micro-batches | memory, GiB |\n| --- | --- |")
    for steps in map(int, options.micro_batches.split(",")):
        taken = temporary_bytes(options.batch, steps, options.width)
        print(f"| {steps} | {taken / 2**30:.2f} |", flush=True)


if __name__ == "__main__":
    main()
