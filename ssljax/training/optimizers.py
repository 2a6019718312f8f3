"""Optimisers and the learning-rate schedule, with PyTorch's semantics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import optax
from ml_collections import ConfigDict

from ssljax.errors import InputError, nearest
from ssljax.training.layers import match


def step_decay(
    learning_rate: float, every_epochs: int, factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """PyTorch's StepLR, stepped once an epoch: × factor after every `every_epochs` epochs."""
    # Not optax.exponential_decay, which rounds to float32 where float64 is asked for.
    period = every_epochs * steps_per_epoch
    return lambda step: learning_rate * factor ** (step // period)


def warmup(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """Rises linearly to the schedule: × 1/steps at the first step, × 2/steps at the second, ….

    That is PyTorch's `LinearLR(start_factor=1/steps, total_iters=steps - 1)`, stepped once a step.
    Source: Goyal et al. (2017), section 2.2, there from the rate of the base batch size.
    """
    if steps <= 1:
        return schedule
    # Once it has risen, the power of False is 1: no minimum of jax's, for its float32.
    return lambda step: schedule(step) * ((step + 1) / steps) ** (step < steps)


def scaled_learning_rate(config: Mapping[str, Any], batch_size: int) -> float:
    """The learning rate for a batch size.

    Args:
      config: `config.optimizer`; its `learning_rate` is the one for `base_batch_size`, and
        `learning_rate_scaling` is `none`, `linear` (× the ratio of the batch sizes: Goyal et al.,
        2017, for SGD), or `sqrt` (× its root: Malladi et al., 2022, for Adam).
      batch_size: the global one, whatever parts it is computed in.
    """
    ratio = batch_size / config["base_batch_size"]
    scale = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    return float(config["learning_rate"] * scale[config["learning_rate_scaling"]])


def make_schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate by step that a training config describes."""
    schedule = step_decay(
        scaled_learning_rate(config.optimizer, config.batch_size),
        config.schedule.every_epochs,
        config.schedule.factor,
        steps_per_epoch,
    )
    return warmup(schedule, round(config.schedule.warmup_epochs * steps_per_epoch))


def adam(
    learning_rate: optax.Schedule, weight_decay: float, b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
    """PyTorch's `torch.optim.Adam`: weight decay is an L2 term added to the gradient."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),  # before Adam's scaling; AdamW has it after
        optax.scale_by_adam(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


def sgd(
    learning_rate: optax.Schedule, weight_decay: float, momentum: float
) -> optax.GradientTransformation:
    """PyTorch's `torch.optim.SGD` with its L2 weight decay and momentum."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(momentum) if momentum else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )


# Each with the names of the settings that it takes from `config.optimizer`.
OPTIMIZERS: dict[str, tuple[Callable[..., optax.GradientTransformation], tuple[str, ...]]] = {
    "adam": (adam, ("weight_decay", "b1", "b2", "eps")),
    "sgd": (sgd, ("weight_decay", "momentum")),
}


def make_optimizer(
    config: Mapping[str, Any], schedule: optax.Schedule, frozen_layers: str = ""
) -> optax.GradientTransformation:
    """Makes the optimiser that `config.optimizer` describes.

    Args:
      config: `config.optimizer`.
      schedule: the learning rate by step.
      frozen_layers: layers that neither gradients nor weight decay change, see `layers.match`.

    Raises:
      InputError: an unknown optimiser.
    """
    if config["name"] not in OPTIMIZERS:
        raise InputError(
            f"optimizer.name: unknown optimizer {config['name']!r}; "
            f"{nearest(config['name'], list(OPTIMIZERS))}"
        )
    make, settings = OPTIMIZERS[config["name"]]
    optimizer = make(schedule, **{key: config[key] for key in settings})
    if not frozen_layers:
        return optimizer

    def groups(params: Mapping[str, Any]) -> dict[str, str]:
        frozen = match(frozen_layers, params, "frozen_layers")
        return {layer: "frozen" if layer in frozen else "trained" for layer in params}

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, groups)
