"""One, two and four devices, under jit and pmap, compute the same."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ssljax.data import pipeline
from ssljax.data.pictures import Pictures
from ssljax.errors import InputError
from ssljax.training.optimizers import make_optimizer
from ssljax.training.parallelism import Parallelism
from ssljax.training.run import make_run, open_class_names
from ssljax.training.steps import initial_state, make_evaluation_step, make_train_step

STEPS = 20


def run_sgd(config, mode: str, count: int):
    """Twenty steps of plain SGD, with dropout; Adam would hide a gradient N times too large."""
    run = make_run(config, open_class_names(config))
    parallelism = Parallelism(mode, config.batch_size, jax.devices()[:count])
    optimizer = make_optimizer(
        {"name": "sgd", "weight_decay": 1e-3, "momentum": 0.0}, lambda step: 0.05
    )
    state = jax.jit(
        lambda: initial_state(run.model, optimizer, run.task.image_size, seed=0),
        out_shardings=parallelism.replicated(),
    )()
    step = parallelism.train_step(make_train_step(run.model, run.task, optimizer, seed=0))
    batches = pipeline.batches(
        Pictures(run.records(config.data.train_split)), run.task,
        batch_size=config.batch_size, epochs=5, seed=0, train=True, random_crop=True,
    )  # fmt: skip
    losses = []
    for _, batch in zip(range(STEPS), batches, strict=False):
        state, sums = step(state, parallelism.put(batch))
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    sums, outputs = parallelism.evaluation_step(make_evaluation_step(run.model, run.task))(
        state.params, parallelism.put(batch)
    )
    return losses, jax.device_get(state.params), jax.device_get(sums), np.asarray(outputs)


@pytest.fixture(scope="module")
def reference(make_config):
    config = make_config("classification")
    return config, run_sgd(config, "jit", 1)


@pytest.mark.parametrize(
    ("mode", "count"), [("jit", 2), ("jit", 4), ("pmap", 1), ("pmap", 2), ("pmap", 4)]
)
def test_losses_and_parameters_after_twenty_steps(reference, mode, count):
    config, (losses, params, sums, outputs) = reference
    assert losses[-1] < losses[0] - 0.01  # something was learnt, so there is something to compare
    got = run_sgd(config, mode, count)
    np.testing.assert_allclose(got[0], losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got[1], params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got[2], sums)
    np.testing.assert_allclose(got[3], outputs, atol=1e-5)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="batch_size: 30 does not divide over 4 devices.*is 32"):
        Parallelism("jit", 30)
    with pytest.raises(InputError, match="parallelism: 'pjit' is not one of jit, pmap"):
        Parallelism("pjit", 32)
