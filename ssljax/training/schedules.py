"""Schedules: functions of the step, given the total number of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def step_decay(value: float, every_epochs: int, factor: float, steps_per_epoch: int) -> Any:
    """PyTorch's StepLR, stepped once an epoch: × factor after every `every_epochs` epochs."""
    # optax.exponential_decay rounds to float32 even for float64 steps.
    period = every_epochs * steps_per_epoch
    return lambda step: value * factor ** (step // period)


def cosine(value: float, final: float, total_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Half a cosine from a value at the end of the warm-up to `final` at the last step.

    Source: Loshchilov and Hutter (2017), "SGDR", equation 5, with one period.
    """
    period = max(total_steps - warmup_steps, 1)

    def schedule(step: Any) -> Any:
        share = jnp.clip((step - warmup_steps) / period, 0, 1)
        return final + (value - final) * (1 + jnp.cos(math.pi * share)) / 2

    return schedule


def warmup(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """Rises linearly to the schedule: × 1/steps at the first step, × 2/steps at the second, ….

    That is PyTorch's `LinearLR(start_factor=1/steps, total_iters=steps - 1)`, stepped once a step.
    Source: Goyal et al. (2017), "Accurate, Large Minibatch SGD", section 2.2, where it begins at
    the learning rate of the base batch size.
    """
    if steps <= 1:
        return schedule
    # After the warm-up the exponent is 0. jnp.minimum would round to float32.
    return lambda step: schedule(step) * ((step + 1) / steps) ** (step < steps)


def scaled_learning_rate(config: Mapping[str, Any], batch_size: int) -> float:
    """The learning rate for a batch size.

    Args:
      config: `config.optimizer`; its `learning_rate` is the one for `base_batch_size`, and
        `learning_rate_scaling` is `none`, `linear` (× the ratio of the batch sizes: Goyal et al.,
        2017, for SGD), or `sqrt` (× its square root: Malladi et al., 2022, for Adam).
      batch_size: the global batch, however it is divided.
    """
    ratio = batch_size / config["base_batch_size"]
    scale = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    return float(config["learning_rate"] * scale[config["learning_rate_scaling"]])


def learning_rate(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate by step that a training config describes."""
    value = scaled_learning_rate(config.optimizer, config.batch_size)
    settings, total = config.schedule, config.epochs * steps_per_epoch
    warmup_steps = round(settings.warmup_epochs * steps_per_epoch)
    schedules: dict[str, optax.Schedule] = {
        "constant": lambda step: value,
        "step": step_decay(value, settings.every_epochs, settings.factor, steps_per_epoch),
        "cosine": cosine(value, settings.final * value, total, warmup_steps),
    }
    return warmup(schedules[settings.name], warmup_steps)


def weight_decay(config: ConfigDict, steps_per_epoch: int) -> float | optax.Schedule:
    """The weight decay that a training config describes: a number, or a function of the step."""
    value, settings = config.optimizer.weight_decay, config.schedule
    if settings.weight_decay == "constant":
        return value
    return cosine(value, settings.final_weight_decay, config.epochs * steps_per_epoch)
