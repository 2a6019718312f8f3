"""Optimisers as PyTorch or their authors have them, and groups of parameters within them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ssljax.methods.parameter_groups import ParameterGroup
from ssljax.models import model_class, paths
from ssljax.training import schedules
from ssljax.training.layer_decay import scale_by_layer


def make_optimizer(
    config: ConfigDict, steps_per_epoch: int, groups: Sequence[ParameterGroup] = ()
) -> optax.GradientTransformation:
    """Makes the optimiser of a training config.

    Args:
      config: its `optimizer`, `schedule`, `frozen_layers` and `model`.
      steps_per_epoch: counts epochs.
      groups: of the method.

    Raises:
      InputError: a pattern matches no parameter; when the optimiser is initialised.
    """
    settings = config.optimizer
    decays = _weight_decays(config, steps_per_epoch, groups)
    rates = [
        *_learning_rate_factors(config, steps_per_epoch, groups),
        optax.scale_by_learning_rate(schedules.learning_rate(config, steps_per_epoch)),
    ]
    if settings.layer_decay != 1:
        rates.insert(0, scale_by_layer(config))
    scaling = optax.scale_by_adam(settings.b1, settings.b2, settings.eps)
    momentum = optax.trace(settings.momentum, settings.nesterov)
    parts = {
        # PyTorch's `Adam` adds the weight decay to the gradient; its `AdamW` adds it after the
        # scaling (Loshchilov and Hutter, 2019).
        "adam": [*decays, scaling, *rates],
        "adamw": [scaling, *decays, *rates],
        # PyTorch's `SGD`: the learning rate is not part of the momentum.
        "sgd": [*decays, momentum, *rates],
        # You et al. (2017), algorithm 1, as SimCLR's code has it: the gradient's norm is taken with
        # the weight decay, the learning rate is part of the momentum, and biases and norms are not
        # adapted.
        "lars": [*decays, _trust_ratios(settings.trust_coefficient), *rates, momentum],
    }
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    optimizer = optax.chain(*clip, *parts[settings.name])
    own = model_class(config.model.name).frozen(config.model)
    patterns = ",".join(filter(None, (config.frozen_layers, own)))
    if not patterns:
        return optimizer

    def labels(params: Any) -> Any:
        leaves = paths.flatten(params)
        frozen = paths.match(patterns, leaves, "frozen_layers")
        return paths.unflatten({path: "frozen" if path in frozen else "trained" for path in leaves})

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _trust_ratios(coefficient: float) -> optax.GradientTransformation:
    """Scales each update by coefficient · ‖parameter‖ / ‖update‖; 1 if one of the norms is 0.

    Stacked layers have a ratio each.
    """

    def scaled(keys: Any, update: jax.Array, param: jax.Array) -> jax.Array:
        dimensions = paths.dimensions(paths.path_of(keys), param)
        if dimensions < 2:
            return update
        axes = tuple(range(param.ndim - dimensions, param.ndim))
        ours, theirs = (
            jnp.sqrt(jnp.sum(jnp.square(leaf), axis=axes, keepdims=True))
            for leaf in (param, update)
        )
        ratio = coefficient * ours / jnp.where(theirs > 0, theirs, 1)
        return update * jnp.where((ours > 0) & (theirs > 0), ratio, 1)

    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(scaled, updates, params)
    )


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
        return {path: result[path] if decays_all or paths.dimensions(path, leaf) > 1 else 0.0
                for path, leaf in leaves.items()}  # fmt: skip

    def add(factor: float) -> optax.GradientTransformation:
        scaled: Any = factor * value if not callable(value) else lambda step: factor * value(step)
        return optax.add_decayed_weights(
            scaled, mask=lambda params: _marked(params, _equal(factors(params), factor))
        )

    return [add(each) for each in sorted({1.0, *(group.weight_decay for group in groups)}) if each]


def _learning_rate_factors(
    config: ConfigDict, steps_per_epoch: int, groups: Sequence[ParameterGroup]
) -> list[optax.GradientTransformation]:
    """Multiplies the updates of each group by its factor."""
    schedule = schedules.learning_rate(config, steps_per_epoch)
    value = schedules.scaled_learning_rate(config.optimizer, config.batch_size)

    def scale(index: int, group: ParameterGroup) -> optax.GradientTransformation:
        factor = group.learning_rate

        def of_step(step: jax.Array) -> jax.Array:
            epochs = jnp.asarray(step, jnp.float32) / steps_per_epoch
            own = factor(epochs) if callable(factor) else factor
            # All updates are multiplied by the schedule after this.
            if not group.scheduled:
                own = own * value / jnp.maximum(schedule(step), 1e-30)
            return jnp.asarray(own)

        if callable(factor) or not group.scheduled:
            scaling = optax.scale_by_schedule(of_step)
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
