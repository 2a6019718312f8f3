"""What the contract promises, for every method; `follow` of tests/plugin.py uses all of it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.data import pipeline
from ssljax.methods import METHODS
from ssljax.models.collectives import AXIS
from ssljax.runs.config import resolve
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.training.run_step import make_run_step
from ssljax.training.step import make_evaluation_step, make_train_step
from tests import tiny
from tests.conftest import REPOSITORY
from tests.fast_compilation import FLAGS
from tests.kills import same
from tests.plain_sgd import assert_same, run_sgd

ALL = sorted({*METHODS, "follow"})
# With losses per example, drawn on the host, over the batch, with a teacher, and with a memory.
ONE_OF_EACH_KIND = (
    "classification", "jigsaw", "rotation", "simclr", "follow", "swav", "moco_v2", "mae",
)  # fmt: skip


# Their losses are per example, and the backbone that they need has no batch normalisation.
WITHOUT_STATISTICS = ("mae", "ijepa")


@pytest.fixture(scope="module")
def small(make_config):
    """A factory of tiny configs with a backbone that has batch statistics and compiles fast."""

    def make(method):
        config = make_config(f"{method},small_net").copy_and_resolve_references().unlock()
        tiny.drop(config)
        return config

    return make


@pytest.fixture(scope="module")
def references(small):
    """Twenty steps of each method on one device."""
    found = {}

    def reference(method):
        if method not in found:
            found[method] = run_sgd(small(method), "jit", 1)
        return found[method]

    return reference


@pytest.mark.parametrize(
    ("method", "mode", "count"),
    [(method, "jit", count) for method in ALL for count in (2, 4)]
    + [(method, "pmap", 2) for method in ONE_OF_EACH_KIND],
)
def test_devices_compute_together_what_one_does(small, references, method, mode, count):
    expected = references(method)
    assert expected["gradient_norm"] > 1e-3  # so there is something to compare
    assert_same(run_sgd(small(method), mode, count), expected)


def test_two_processes_of_two_devices(references, data_dir, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {FLAGS}"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.plain_sgd", str(index), "2", port, data_dir,
             str(tmp_path), *ALL],
            cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    for method in ALL:
        results = [dict(np.load(tmp_path / f"{method}-{index}.npz")) for index in range(2)]
        names = [name for name in results[0] if name.startswith("outputs")]
        whole = {name: np.concatenate([got[name] for got in results]) for name in names}
        for got in results:
            assert_same({**got, **whole}, references(method))


@pytest.mark.parametrize("method", [name for name in ALL if name not in WITHOUT_STATISTICS])
def test_micro_batches_are_refused_if_they_would_compute_something_else(small, method):
    config = small(method)
    config.gradient_accumulation_steps = 2
    run = open_run(resolve(config))
    couples = run.method.couples_examples
    why = "compares the examples of a batch" if couples else "small_net has batch normalisation"
    with pytest.raises(InputError, match=rf"accumulation_steps must be 1: .*{why}.*remat=true"):
        make_run_step(run, 7)


@pytest.mark.parametrize(("mode", "count", "steps"), [("jit", 1, 4), ("jit", 4, 2), ("pmap", 2, 4)])
def test_micro_batches_change_nothing(small, mode, count, steps):
    """Some micro-batches of the batch that ends an epoch count no example at all."""
    config = small("classification")
    config.model.normalize = False
    assert_same(run_sgd(config, mode, count, steps), run_sgd(config, "jit", 1))


@pytest.mark.parametrize("method", WITHOUT_STATISTICS)
def test_micro_batches_change_nothing_without_batch_statistics(small, references, method):
    assert_same(run_sgd(small(method), "jit", 2, 2), references(method))


def test_micro_batches_change_nothing_if_what_has_batch_statistics_is_frozen(small):
    config = small("classification")
    config.frozen_layers = "backbone"
    assert_same(run_sgd(config, "jit", 2, 2), run_sgd(config, "jit", 1))


def test_alexnet_with_dropout_on_two_devices(make_config):
    config = make_config("classification")
    assert_same(run_sgd(config, "jit", 2), run_sgd(config, "jit", 1))


def one_batch(config):
    run = open_run(resolve(config))
    images = run.images("images[:32]")
    batch = next(
        pipeline.batches(images, run.method.draw, batch_size=32, epochs=1, seed=0, train=True)
    )
    return run, jax.device_put(batch)


def on_one_device(function):
    """Runs a function of a batch with the axis that methods use."""
    return lambda *arguments: jax.tree.map(
        lambda x: x[0],
        jax.pmap(function, AXIS, in_axes=0, devices=jax.devices()[:1])(
            *jax.tree.map(lambda x: x[None], arguments)
        ),
    )


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[pytest.mark.quick] * (name == "jigsaw"))
        for name in METHODS
        if not METHODS[name].couples_examples
    ],
)
def test_masked_examples_change_neither_loss_nor_gradient(small, method):
    """With given statistics: those of the batch come from all of its examples."""
    run, batch = one_batch(small(method))
    run = dataclasses.replace(run, network=run.evaluation_network())
    run_step = make_run_step(run, 7, jax.devices()[:1])
    state = run_step.new_state()
    step = on_one_device(make_train_step(run, run_step.optimizer, 7, 14))
    batch["mask"] = jnp.arange(32) < 20
    other = {
        **batch,
        "image": batch["image"].at[20:].set(77),
        "label": batch["label"].at[20:].set(0),
    }
    for a, b in zip(
        jax.tree.leaves(step(state, batch)), jax.tree.leaves(step(state, other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].has_teacher])
def test_the_teacher_gets_no_gradient(small, method):
    run, batch = one_batch(small(method))
    state = make_run_step(run, 7, jax.devices()[:1]).new_state()
    evaluate = make_evaluation_step(run)

    def loss(teacher):
        return evaluate({**state.weights(), "teacher": teacher}, batch)[0]["loss"][0]

    gradients = on_one_device(jax.grad(loss))(state.teacher)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))


def test_the_teacher_follows_and_keeps_its_own_statistics(small):
    run, batch = one_batch(small("follow"))
    run_step = make_run_step(run, 7, jax.devices()[:1])
    state = run_step.new_state()
    step = on_one_device(make_train_step(run, run_step.optimizer, 7, total_steps=14))
    before = jax.device_get(state)
    after, _ = step(state, batch)
    jax.tree.map(
        lambda new, old, params: np.testing.assert_allclose(
            new, 0.9 * old + 0.1 * params, rtol=1e-5, atol=1e-7
        ),
        after.teacher["params"], before.teacher["params"], after.params,
    )  # fmt: skip
    mean = after.teacher["stats"]["backbone"]["norm"]["mean"]
    # Its own forward pass, without dropout and with the same weights, sees the same statistics.
    np.testing.assert_allclose(mean, after.stats["backbone"]["norm"]["mean"], rtol=1e-5)
    assert np.asarray(mean).any()
    assert np.asarray(after.memory["queue"])[:32].any(axis=1).all()
    assert not np.asarray(after.memory["queue"])[32:].any()


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=[pytest.mark.quick] * (name == "classification")) for name in ALL],
)
def test_the_loss_falls_on_real_images_and_a_run_that_resumes_equals_one_that_did_not_stop(
    small, tmp_path, method
):
    """The latest checkpoint is removed, so that the run continues from the one before."""
    config = small(method)
    config.epochs = config.validate_every_epochs = 15
    config.optimizer.learning_rate, config.optimizer.weight_decay = 1e-2, 0.0
    config.checkpoint_every_steps = 90
    train(config, tmp_path / "once")
    losses = [row["loss"] for row in read_metrics(tmp_path / "once") if row["kind"] == "train"]
    # A queue of random directions, with which MoCo v2 begins, is easy to tell apart from images.
    first = max(losses[:6]) if method == "moco_v2" else losses[0]
    assert losses[-1] < 0.9 * first
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    shutil.rmtree(tmp_path / "twice/checkpoints/latest/105")
    train(config, tmp_path / "twice")
    assert same(tmp_path / "twice", tmp_path / "once")


@pytest.mark.parametrize("method", ALL)
def test_bfloat16_computes_roughly_the_same(small, method):
    outputs, state = [], None
    for dtype in ("float32", "bfloat16"):
        config = small(method)
        config.model.dtype = dtype
        run, batch = one_batch(config)
        state = state or make_run_step(run, 7, jax.devices()[:1]).new_state()
        kinds = {leaf.dtype for leaf in jax.tree.leaves(state.weights()) if leaf.ndim}
        assert kinds == {np.dtype("float32")}
        sums, output = on_one_device(make_evaluation_step(run))(state.weights(), batch)
        assert {leaf.dtype for leaf in jax.tree.leaves((sums, output))} == {np.dtype("float32")}
        outputs.append(output)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.04), *outputs)
