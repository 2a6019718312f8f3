"""The training and the evaluation step, as one device runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ssljax.tasks.task import Batch, Metrics, Task
from ssljax.training.parallelism import AXIS

Sums = dict[str, tuple[jax.Array, jax.Array]]


class TrainState(flax.struct.PyTreeNode):
    """All that training changes: int32 step, float32 parameters, the optimiser's state."""

    step: jax.Array
    params: Any
    opt_state: Any


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, image_size: int, seed: int
) -> TrainState:
    """Fresh parameters from the seed, at step 0; run it inside jit."""
    params = model.init(jax.random.key(seed), jnp.zeros((1, image_size, image_size, 3)))["params"]
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(
    model: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    seed: int,
    gradient_accumulation_steps: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
    """One step of gradient descent on the mean loss over the examples that are not padding.

    Args:
      model: called with pictures and a dropout key for each.
      task: gives inputs, losses and metrics.
      optimizer: what is done with the gradients.
      seed: of the dropout.
      gradient_accumulation_steps: micro-batches in which a device takes its part of the batch, one
        after the other; their gradients are summed, so that the step stays the same.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        mask = batch["mask"]
        count = jax.lax.psum(jnp.sum(mask, dtype=jnp.float32), AXIS)
        keys = _dropout_keys(seed, state.step, mask.shape[0])

        def gradients_and_sums(batch: Batch, keys: jax.Array) -> tuple[Any, Sums]:
            def mean_loss(params: Any) -> tuple[jax.Array, jax.Array]:
                outputs: Any = model.apply({"params": params}, task.inputs(batch), keys)
                losses = jnp.where(batch["mask"], task.loss(outputs, batch), 0)
                return jnp.sum(losses) / count, outputs

            gradients, outputs = jax.grad(mean_loss, has_aux=True)(state.params)
            return gradients, _sums(task, outputs, batch)

        results = _accumulate(gradients_and_sums, (batch, keys), gradient_accumulation_steps)
        gradients, sums = jax.lax.psum(results, AXIS)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), sums

    return train_step


def make_evaluation_step(
    model: nn.Module, task: Task
) -> Callable[[Any, Batch], tuple[Sums, jax.Array]]:
    """Loss and metrics summed over the whole batch, and each example's outputs."""

    def evaluation_step(params: Any, batch: Batch) -> tuple[Sums, jax.Array]:
        outputs: Any = model.apply({"params": params}, task.inputs(batch))
        return jax.lax.psum(_sums(task, outputs, batch), AXIS), outputs

    return evaluation_step


def _accumulate(function: Callable[..., Any], arguments: Any, steps: int) -> Any:
    """Sums what a function returns over equal parts of its arguments, one after the other."""
    if steps == 1:
        return function(*arguments)
    parts = jax.tree.map(lambda x: x.reshape(steps, -1, *x.shape[1:]), arguments)
    shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def _dropout_keys(seed: int, step: jax.Array, examples: int) -> jax.Array:
    """One key per example, from the seed, the step and the example's place in the global batch."""
    place = jax.lax.axis_index(AXIS) * examples + jnp.arange(examples)
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(place)


def _sums(task: Task, outputs: jax.Array, batch: Batch) -> Sums:
    """Loss and metrics summed over this device's examples."""
    loss = task.loss(outputs, batch)
    metrics: Metrics = {"loss": (loss, jnp.ones_like(loss)), **task.metrics(outputs, batch)}

    def total(values: jax.Array) -> jax.Array:
        mask = batch["mask"].reshape(-1, *[1] * (values.ndim - 1))
        return jnp.sum(jnp.where(mask, values, 0), axis=0)

    return {name: (total(value), total(weight)) for name, (value, weight) in metrics.items()}
