"""Optimisers and the learning-rate schedule, with PyTorch's semantics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optax

from ssljax.errors import InputError, nearest
from ssljax.training.layers import match


def step_decay(
    learning_rate: float, every_epochs: int, factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """PyTorch's StepLR, stepped once an epoch: × factor after every `every_epochs` epochs."""
    # Not optax.exponential_decay, which rounds to float32 where float64 is asked for.
    period = every_epochs * steps_per_epoch
    return lambda step: learning_rate * factor ** (step // period)


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
