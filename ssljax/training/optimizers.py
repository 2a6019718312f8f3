"""Optimisers with PyTorch's semantics, and groups of parameters that they treat differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ssljax.methods.parameter_groups import ParameterGroup
from ssljax.models import paths
from ssljax.training import schedules


def adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """The scaling of PyTorch's `torch.optim.Adam`; its weight decay is added to the gradient."""
    return optax.scale_by_adam(b1, b2, eps)


def sgd(momentum: float) -> optax.GradientTransformation:
    """The momentum of PyTorch's `torch.optim.SGD`; its weight decay is added to the gradient."""
    return optax.trace(momentum) if momentum else optax.identity()


# With the names of the settings that each takes from `config.optimizer`.
OPTIMIZERS: dict[str, tuple[Callable[..., optax.GradientTransformation], tuple[str, ...]]] = {
    "adam": (adam, ("b1", "b2", "eps")),
    "sgd": (sgd, ("momentum",)),
}


def make_optimizer(
    config: ConfigDict, steps_per_epoch: int, groups: Sequence[ParameterGroup] = ()
) -> optax.GradientTransformation:
    """Makes the optimiser of a training config.

    Args:
      config: its `optimizer`, `schedule` and `frozen_layers`.
      steps_per_epoch: counts epochs.
      groups: of the method.

    Raises:
      InputError: a pattern matches no parameter; when the optimiser is initialised.
    """
    settings = config.optimizer
    make, names = OPTIMIZERS[settings.name]
    optimizer = optax.chain(
        # Before Adam's scaling: L2, as in PyTorch's Adam. AdamW has it after.
        *_weight_decays(config, steps_per_epoch, groups),
        make(**{name: settings[name] for name in names}),
        *_learning_rate_factors(steps_per_epoch, groups),
        optax.scale_by_learning_rate(schedules.learning_rate(config, steps_per_epoch)),
    )
    if not config.frozen_layers:
        return optimizer

    def labels(params: Any) -> Any:
        leaves = paths.flatten(params)
        frozen = paths.match(config.frozen_layers, leaves, "frozen_layers")
        return paths.unflatten({path: "frozen" if path in frozen else "trained" for path in leaves})

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _weight_decays(
    config: ConfigDict, steps_per_epoch: int, groups: Sequence[ParameterGroup]
) -> list[optax.GradientTransformation]:
    """Adds weight decay to the gradients, once for each factor that occurs."""
    value = schedules.weight_decay(config, steps_per_epoch)
    decays_all = config.optimizer.decay_biases_and_norms
    if not groups and decays_all:
        return [optax.add_decayed_weights(value)]

    def factors(params: Any) -> dict[str, float]:
        leaves = paths.flatten(params)
        result = dict.fromkeys(leaves, 1.0)
        for group, members in zip(groups, _members(groups, leaves), strict=True):
            result |= dict.fromkeys(members, group.weight_decay)
        return {path: result[path] if decays_all or leaf.ndim > 1 else 0.0
                for path, leaf in leaves.items()}  # fmt: skip

    def add(factor: float) -> optax.GradientTransformation:
        scaled: Any = factor * value if not callable(value) else lambda step: factor * value(step)
        return optax.add_decayed_weights(
            scaled, mask=lambda params: _marked(params, _equal(factors(params), factor))
        )

    return [add(each) for each in sorted({1.0, *(group.weight_decay for group in groups)}) if each]


def _learning_rate_factors(
    steps_per_epoch: int, groups: Sequence[ParameterGroup]
) -> list[optax.GradientTransformation]:
    """Multiplies the updates of each group by its factor."""

    def scale(index: int, group: ParameterGroup) -> optax.GradientTransformation:
        factor = group.learning_rate
        if callable(factor):
            of_epochs = factor
            scaling = optax.scale_by_schedule(
                lambda step: of_epochs(jnp.asarray(step, jnp.float32) / steps_per_epoch)
            )
        else:
            scaling = optax.scale(factor)
        return optax.masked(
            scaling,
            lambda params: _marked(params, _members(groups, paths.flatten(params))[index]),
        )

    return [scale(index, group) for index, group in enumerate(groups)]


def _members(groups: Sequence[ParameterGroup], leaves: Mapping[str, Any]) -> list[set[str]]:
    """The paths that belong to each group; one that several groups choose belongs to the last."""
    members: list[set[str]] = []
    for group in groups:
        chosen = paths.matching_paths(group.pattern, leaves)
        members = [earlier - chosen for earlier in members] + [chosen]
    return members


def _equal(factors: Mapping[str, float], factor: float) -> set[str]:
    return {path for path, own in factors.items() if own == factor}


def _marked(params: Any, chosen: set[str]) -> Any:
    """A tree like params that is True for the chosen paths."""
    # Frozen parameters are no leaves here, but their places in the tree must stay.
    return jax.tree_util.tree_map_with_path(lambda keys, _: paths.path_of(keys) in chosen, params)
