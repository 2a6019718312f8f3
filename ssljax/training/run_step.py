"""The training step of a run, on some devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from ssljax.devices import cpu_compiler
from ssljax.devices.parallelism import Parallelism
from ssljax.models import model_class
from ssljax.runs.run import Run
from ssljax.settings.errors import InputError
from ssljax.training import schedules
from ssljax.training.memory import check_memory
from ssljax.training.optimizers import make_optimizer
from ssljax.training.state import TrainState, initial_state
from ssljax.training.step import make_train_step
from ssljax.training.training_records import training_records


@dataclasses.dataclass(frozen=True)
class RunStep:
    """The step that a run's config describes.

    Attributes:
      parallelism: how it is divided among the devices.
      learning_rate: by step.
      optimizer: with that learning rate.
      train_step: `(state, batch) -> (state, sums)`, compiled; the given state is donated.
      initial_state: makes the state of step 0; to be traced, see `new_state`.
    """

    parallelism: Parallelism
    learning_rate: optax.Schedule
    optimizer: optax.GradientTransformation
    train_step: Any
    initial_state: Callable[[], TrainState]

    def new_state(self) -> TrainState:
        """The state of step 0, on the devices."""
        options = cpu_compiler.RUN_ONCE if self.parallelism.devices[0].platform == "cpu" else None
        replicated = self.parallelism.replicated()
        make = jax.jit(self.initial_state, out_shardings=replicated, compiler_options=options)
        return make()


def make_run_step(
    run: Run, steps_per_epoch: int, devices: Sequence[jax.Device] | None = None
) -> RunStep:
    """Makes the step of a run.

    Args:
      run: with its config.
      steps_per_epoch: counts epochs, on which schedules and random draws depend.
      devices: None takes all.

    Raises:
      InputError: the batch does not divide among the devices, or cannot be computed in
        micro-batches.
    """
    config = run.config
    parallelism = Parallelism(
        config.parallelism, config.batch_size, config.gradient_accumulation_steps, devices
    )
    check_batch(run, len(devices) if devices else jax.device_count())
    optimizer = make_optimizer(config, steps_per_epoch, run.method.parameter_groups())
    step = make_train_step(run, optimizer, steps_per_epoch, config.epochs * steps_per_epoch)
    return RunStep(
        parallelism,
        schedules.learning_rate(config, steps_per_epoch),
        optimizer,
        parallelism.train_step(step, model_class(config.model.name).without_ynnpack),
        lambda: initial_state(run, optimizer),
    )


def check_batch(run: Run, devices: int) -> None:
    """Checks that there are examples to compare, and that micro-batches give the same step.

    Args:
      run: with the batch size, which divides among the devices.
      devices: their number.

    Raises:
      InputError: the loss compares examples, or the network has batch statistics, and the batch or
        its division does not allow that.
    """
    run.method.check_batch(run.config.batch_size)
    together = run.method.rows_together
    rows = run.config.batch_size // (devices * run.config.gradient_accumulation_steps)
    if rows % together:
        raise InputError(
            f"batch_size: {rows} images are on each device in each micro-batch, and the method "
            f"needs a multiple of {together} there; use another batch_size or fewer devices (on a "
            "CPU: cpu_devices)"
        )
    if run.config.gradient_accumulation_steps == 1:
        return
    stats = run.variable_shapes()[1]
    # Parts that are frozen as a whole are not among these.
    parts = [name for name in run.network.batch_statistics if jax.tree.leaves(stats.get(name))]
    if run.method.couples_examples or parts:
        names = {"backbone": run.config.model.name}
        why = (
            f"the loss of {run.config.method.name} compares the examples of a batch"
            if run.method.couples_examples
            else f"{names.get(parts[0], f'the {parts[0]} of {run.config.method.name}')} has batch "
            "normalisation"
        )
        raise InputError(
            f"gradient_accumulation_steps must be 1: {why}, so micro-batches would compute "
            "something else; --config.model.remat=true saves memory without changing the result"
        )


def check_buildable(run: Run) -> None:
    """Builds everything of a training run except its state, and opens its data.

    Raises:
      InputError: whatever is wrong with the config or the data.
    """
    data = run.config.data
    training_records(run)
    for split in (data.validation_split, data.test_split):
        run.records(split)
    step = make_run_step(run, steps_per_epoch=1)
    # Patterns that match no parameter are named here.
    check_memory(run, jax.eval_shape(step.initial_state))
