"""Ten steps of a run on one device, for comparison with a plain loop in PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from ssljax.data import pipeline
from ssljax.methods import METHODS
from ssljax.runs.config import resolve
from ssljax.runs.run import Run, open_run
from ssljax.training.run_step import make_run_step
from ssljax.views.keys import record_keys
from tests import tiny

STEPS, BATCH = 10, 16


def make_run(
    method: str, data_dir: str, learning_rate: float, dtype: str = "float32", **options: Any
) -> Run:
    """A narrow ResNet-18, or what tests/tiny.py has for methods that need tokens, with SGD.

    Rounding grows from step to step, and more so with a higher learning rate.
    """
    config = tiny.get_config(method)
    config.data.data_dir = data_dir
    if METHODS[method].needs_tokens:
        config.model.dtype = dtype
    else:
        config.model = {"name": "resnet18", "width": 1 / 16, "stem": "small", "dtype": dtype}
    config.init_layers = "backbone"
    config.data.image_size, config.batch_size = 32, BATCH
    config.method.update(options)
    config.optimizer.name, config.optimizer.momentum = "sgd", 0.9
    config.optimizer.learning_rate, config.optimizer.weight_decay = learning_rate, 1e-3
    config.schedule.name = "constant"
    return open_run(resolve(config))


class Steps(NamedTuple):
    """What ten steps give.

    Attributes:
      first: the state before them.
      losses: of the steps.
      last: the state after them.
      inputs: what the network saw, as NumPy arrays.
      batches: what it was made of.
    """

    first: Any
    losses: list[float]
    last: Any
    inputs: list[Any]
    batches: list[Any]


def take(run: Run) -> Steps:
    """Takes the steps."""
    run_step = make_run_step(run, steps_per_epoch=12, devices=jax.devices()[:1])
    state = run_step.new_state()
    first = jax.device_get(state)
    batches = pipeline.batches(
        run.images("images[:200]"), run.method.draw, batch_size=BATCH, epochs=1, seed=0, train=True
    )
    losses, seen, taken = [], [], []
    inputs = jax.jit(
        lambda batch: run.method.inputs(batch, record_keys(0, 0, batch["record"]), train=True)
    )
    for batch in (next(batches) for _ in range(STEPS)):
        taken.append(batch)
        seen.append(jax.tree.map(np.asarray, inputs(batch)))
        state, sums = run_step.train_step(state, run_step.parallelism.put(batch))
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    return Steps(first, losses, jax.device_get(state), seen, taken)
