"""The training step of a run, on some devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from ssljax.training.optimizers import make_optimizer, make_schedule
from ssljax.training.parallelism import Parallelism
from ssljax.training.run import Run
from ssljax.training.steps import TrainState, initial_state, make_train_step


@dataclasses.dataclass(frozen=True)
class RunStep:
    """What a run's config makes of a step.

    Attributes:
      parallelism: how it is spread over the devices.
      learning_rate: by step.
      optimizer: with that learning rate.
      train_step: `(state, batch) -> (state, sums)`, jitted; the state given is used up.
      initial_state: makes the state of step 0; run it inside jit.
    """

    parallelism: Parallelism
    learning_rate: optax.Schedule
    optimizer: optax.GradientTransformation
    train_step: Any
    initial_state: Callable[[], TrainState]


def make_run_step(
    run: Run, steps_per_epoch: int, devices: Sequence[jax.Device] | None = None
) -> RunStep:
    """Makes the step that a run's config describes.

    Args:
      run: with its config.
      steps_per_epoch: what the schedule counts epochs by.
      devices: None takes all.

    Raises:
      InputError: the batch does not divide over the devices, or an unknown optimiser.
    """
    config = run.config
    accumulation = config.gradient_accumulation_steps
    parallelism = Parallelism(config.parallelism, config.batch_size, accumulation, devices)
    learning_rate = make_schedule(config, steps_per_epoch)
    optimizer = make_optimizer(config.optimizer, learning_rate, config.frozen_layers)
    return RunStep(
        parallelism,
        learning_rate,
        optimizer,
        parallelism.train_step(
            make_train_step(run.model, run.task, optimizer, config.seed, accumulation)
        ),
        lambda: initial_state(run.model, optimizer, run.task.image_size, config.seed),
    )
