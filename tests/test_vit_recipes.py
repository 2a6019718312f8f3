"""One narrow step of each recipe for vision transformers, with its views, optimiser and network."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ssljax.data import pipeline
from ssljax.models import paths
from ssljax.models.network import variables
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings import config_files
from ssljax.training.run_step import make_run_step
from ssljax.views.keys import record_keys
from tests.conftest import REPOSITORY
from tests.test_backbones_equal_to_torchvision import FAST

HEADS = {
    "moco": {"hidden": 16, "projection": 8},
    "dino": {"hidden": 16, "bottleneck": 8, "prototypes": 12, "freeze_prototypes": 0.0},
}
HEADS["ibot"] = HEADS["dino"]


def narrow(name, data_dir, views, **model):
    """The recipe for photographs on small ones, with a narrow ViT; local views are of 24 px."""
    spec = f"pretrain.py:method={name},model=vit_small,data=deep_fashion"
    config = config_files.load(f"{REPOSITORY}/configs/{spec}")
    config.data.update(
        dataset="fashion_mnist_10k", data_dir=data_dir, image_size=56, train_split="images[:64]",
        validation_split="images[64:96]", test_split="images[64:96]",
    )  # fmt: skip
    config.method.update(views=views, **HEADS[name])
    config.model.update(width=1 / 8, patch=8, depth=2, dtype="float32", **model)
    config.batch_size, config.schedule.warmup_epochs = 8, 0.0
    return open_run(resolve(config))


def one_batch(run):
    return next(
        pipeline.batches(
            run.images("images[:64]"), run.method.draw, batch_size=8, epochs=1, seed=0, train=True
        )
    )


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("moco", "moco_v3_vit_one_channel"),
        ("dino", "dino_one_channel"),
        ("ibot", "ibot_one_channel"),
    ],
)
def test_a_step_changes_all_parameters_but_a_frozen_projection(name, views, data_dir):
    run = narrow(name, data_dir, views)
    run_step = make_run_step(run, steps_per_epoch=8, devices=jax.devices()[:1])
    state = run_step.new_state()
    before = paths.flatten(jax.device_get(state.params))
    batch = run_step.parallelism.put(one_batch(run))
    state, sums = run_step.train_step(state, batch)
    assert np.isfinite(sums["loss"][0])
    assert 0 < sums["gradient_norm"][0] < np.inf
    frozen = {path for path, leaf in paths.flatten(jax.device_get(state.params)).items()
              if np.array_equal(leaf, before[path])}  # fmt: skip
    projection = {f"backbone/patch_embed/{leaf}" for leaf in ("kernel", "bias")}
    assert frozen == (projection if name == "moco" else set())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.weights()))


def test_only_the_student_drops_paths(data_dir):
    run = narrow("dino", data_dir, "dino_one_channel", drop_path=0.9)
    batch = one_batch(run)
    keys = record_keys(0, 0, batch["record"])
    inputs = jax.jit(run.method.inputs, static_argnums=2, compiler_options=FAST)(batch, keys, True)
    params, stats = jax.jit(run.initial_variables, compiler_options=FAST)()

    def scores(method, keys=None):
        def apply():
            given = variables(params, stats, keys)
            return run.network.apply(given, inputs, method=method)

        return jax.jit(apply, compiler_options=FAST)()

    targets, whole = scores(run.method.targets), scores(run.method.outputs)["scores"]
    np.testing.assert_allclose(targets, whole[:, :2], atol=1e-6)
    dropped = scores(run.method.outputs, keys)["scores"]
    assert np.abs(dropped - whole).max(axis=2).min() > 1e-4  # in every view
