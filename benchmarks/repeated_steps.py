"""A contender that trains on the same batch again and again."""

from __future__ import annotations

from typing import Any

from benchmarks import contenders


def repeated(run_step: Any, data: Any, steps: int, images: int) -> contenders.Work:
    """What takes some steps, and waits for the last one.

    Args:
      run_step: a `ssljax.training.run_step.RunStep`.
      data: a batch on the devices.
      steps: how many.
      images: of the batch.
    """
    import jax

    step, serial = run_step.train_step, run_step.parallelism.serial
    state = run_step.new_state()

    def work() -> int:
        nonlocal state
        for _ in range(steps):
            state, sums = step(state, data)
            if serial:
                jax.block_until_ready(sums)
        jax.block_until_ready(state)
        return steps * images

    return work
