"""The training and the evaluation step, as one device runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ssljax.methods.method import Batch, BatchMetric, Context, Method, Metrics
from ssljax.models import model_class
from ssljax.models.backbone import keep_blocks_only
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.collectives import AXIS
from ssljax.models.network import Network, variables
from ssljax.runs.run import Run
from ssljax.training.state import TrainState
from ssljax.views.keys import record_keys

Sums = dict[str, tuple[jax.Array, ...]]


def make_train_step(
    run: Run, optimizer: optax.GradientTransformation, steps_per_epoch: int, total_steps: int
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
    """One step of gradient descent on the mean loss over the examples that count.

    With `config.gradient_accumulation_steps`, a device computes its part of the batch in that
    many micro-batches, one after the other, and sums their gradients. The step stays the same.

    Args:
      run: its method, network and config.
      optimizer: turns gradients into updates.
      steps_per_epoch: counts epochs, on which random draws depend.
      total_steps: of the whole training.

    Returns:
      `(state, batch) -> (state, sums)`, where sums are (Σ values, Σ weights) of the loss, the
      method's metrics and the norm of the gradient.
    """
    method, network, config = run.method, run.network, run.config
    micro_batches = config.gradient_accumulation_steps

    def apply(params: Any, stats: Any, inputs: Any, keys: jax.Array) -> tuple[Any, Any]:
        given = variables(params, stats, keys)
        outputs, changed = network.apply(given, inputs, method=method.outputs, mutable=[COLLECTION])
        return outputs, changed.get(COLLECTION, {})

    if config.model.remat and not model_class(config.model.name).loops_over_blocks:
        apply = jax.checkpoint(apply, policy=keep_blocks_only())

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        count = jax.lax.psum(jnp.sum(batch["mask"], dtype=jnp.float32), AXIS)
        keys = record_keys(config.seed, state.step // steps_per_epoch, batch["record"])
        progress = state.step.astype(jnp.float32) / total_steps

        def micro_step(batch: Batch, keys: jax.Array) -> tuple[Any, Any]:
            inputs = method.inputs(batch, keys, train=True)
            targets, teacher_stats = _targets(method, network, state.teacher, inputs)

            def mean_loss(params: Any) -> tuple[jax.Array, Any]:
                outputs, stats = apply(params, state.stats, inputs, keys)
                fixed = jax.lax.stop_gradient(params)
                context = Context(batch, inputs, targets, state.memory, progress, fixed)
                losses = jnp.where(batch["mask"], method.loss(outputs, context), 0)
                return jnp.sum(losses) / count, (outputs, stats, context)

            gradients, (outputs, stats, context) = jax.grad(mean_loss, has_aux=True)(state.params)
            outputs = jax.lax.stop_gradient(outputs)
            kept = (stats, teacher_stats, method.remember(outputs, context))
            return (gradients, _sums(method, outputs, context)), kept

        if micro_batches == 1:
            results, (stats, teacher_stats, memory) = micro_step(batch, keys)
        else:  # only for methods and networks that keep nothing, see `check_batch`
            results = _accumulate(lambda *part: micro_step(*part)[0], (batch, keys), micro_batches)
            stats, teacher_stats, memory = state.stats, state.teacher.get("stats", {}), state.memory
        gradients, sums = jax.lax.psum(results, AXIS)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = method.constrain(optax.apply_updates(state.params, updates))
        teacher = _follow(method, state.teacher, params, teacher_stats, progress)
        sums |= {"gradient_norm": (optax.tree.norm(gradients), jnp.ones(()))}
        return TrainState(state.step + 1, params, stats, teacher, memory, opt_state), sums

    return train_step


def make_evaluation_step(run: Run) -> Callable[[Any, Batch], tuple[Sums, Any]]:
    """Loss and metrics summed over the whole batch, and each example's outputs.

    Returns:
      `(weights, batch) -> (sums, outputs)`, where weights are those of `TrainState.weights`, and
      sums those that `MetricSums` needs for means and standard errors.
    """
    method, network, seed = run.method, run.evaluation_network(), run.config.seed

    def evaluation_step(weights: Any, batch: Batch) -> tuple[Sums, Any]:
        keys = record_keys(seed, None, batch["record"])
        inputs = method.inputs(batch, keys, train=False)
        targets, _ = _targets(method, network, weights["teacher"], inputs)
        given = variables(weights["params"], weights["stats"])

        def apply(inputs: Any) -> Any:
            return network.apply(given, inputs, method=method.outputs)

        outputs = apply(inputs)
        memory, params = weights["memory"], weights["params"]
        context = Context(batch, inputs, targets, memory, jnp.ones(()), params, apply)
        return jax.lax.psum(_sums(method, outputs, context, evaluating=True), AXIS), outputs

    return evaluation_step


def _targets(method: Method, network: Network, teacher: Any, inputs: Any) -> tuple[Any, Any]:
    """The teacher's outputs, without gradient, and its statistics after them."""
    if not teacher:
        return None, {}
    given = variables(teacher["params"], teacher["stats"])
    outputs, changed = network.apply(given, inputs, method=method.targets, mutable=[COLLECTION])
    return jax.lax.stop_gradient((outputs, changed.get(COLLECTION, {})))


def _follow(method: Method, teacher: Any, params: Any, stats: Any, progress: jax.Array) -> Any:
    """The teacher after a step: its parameters move towards the new ones."""
    if not teacher:
        return {}
    keep = method.teacher_momentum(progress)
    moved = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, teacher["params"], params)
    return {"params": moved, "stats": stats}


def _accumulate(function: Callable[..., Any], arguments: Any, steps: int) -> Any:
    """Sums what a function returns over equal parts of its arguments, one after the other."""
    parts = jax.tree.map(lambda x: x.reshape(steps, -1, *x.shape[1:]), arguments)
    shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    return jax.lax.scan(add, zeros, parts)[0]


def _sums(method: Method, outputs: Any, context: Context, evaluating: bool = False) -> Sums:
    """Loss and metrics summed over this device's examples."""
    mask = context.batch["mask"]
    loss = method.loss(outputs, context)
    own = loss, jnp.ones_like(loss)
    metrics: Metrics = {
        "loss": BatchMetric(*own) if method.has_batch_loss else own,
        **method.metrics(outputs, context),
        **(method.diagnostics(outputs, context) if evaluating else {}),
    }

    def total(values: jax.Array) -> jax.Array:
        counted = mask.reshape(-1, *[1] * (values.ndim - 1))
        return jnp.sum(jnp.where(counted, values, 0), axis=0)

    def terms(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        if not evaluating or isinstance(pair, BatchMetric):
            return pair
        value, weight = pair
        return value, weight, value**2, value * weight, weight**2

    return {name: tuple(map(total, terms(pair))) for name, pair in metrics.items()}
