"""The same network with weights that were never trained: the floor of every comparison."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.data import pipeline
from ssljax.data.image_source import ImageSource
from ssljax.devices import cpu_compiler
from ssljax.devices.parallelism import Parallelism, place
from ssljax.models.batch_norm import COLLECTION, BatchNorm
from ssljax.models.network import Network, variables
from ssljax.runs.feature_extraction import draw_nothing
from ssljax.runs.run import Run
from ssljax.runs.trained_model import TrainedModel

_PART = "backbone"


def with_random_weights(run: Run, seed: int, images: ImageSource) -> TrainedModel:
    """A model of a run with new weights.

    The running statistics of batch normalisation are those of one pass over images: the mean of
    the statistics of its whole batches, which are as large as in training. With the initial ones
    (mean 0, variance 1), activations would grow or shrink from layer to layer.

    Args:
      run: with the network.
      seed: of the weights.
      images: such as the training images.
    """
    config = run.config.copy_and_resolve_references()
    config.seed = seed
    run = dataclasses.replace(run, config=config)
    options = cpu_compiler.RUN_ONCE if jax.default_backend() == "cpu" else None
    params, stats = jax.jit(run.initial_variables, compiler_options=options)()
    if _PART in stats:
        stats[_PART] = _one_pass(run, params, stats, images)
    parts = {"params": params, "stats": stats, "teacher": {}, "memory": {}}
    return TrainedModel(run, parts, "random", 0)


def _batch_size(run: Run) -> int:
    """That of a micro-batch in training, or the next one that divides among the devices."""
    config, devices = run.config, jax.device_count()
    micro_batch = -(-config.batch_size // config.gradient_accumulation_steps)
    return -(-micro_batch // devices) * devices


def _one_pass(run: Run, params: Any, stats: Any, images: ImageSource) -> Any:
    """The mean statistics of the batches of images, by layer of the backbone."""
    network = run.network.clone(batch_statistics=(_PART,))

    def step(weights: Any, batch: Any) -> tuple[Any, Any]:
        inputs = run.method.normalize(batch["image"])
        given = variables(*weights)
        _, changed = network.apply(given, inputs, method=Network.backbone, mutable=[COLLECTION])
        return changed[COLLECTION][_PART], {}

    rows = _batch_size(run)
    parallelism = Parallelism("jit", rows)
    compiled = parallelism.evaluation_step(step)
    # From zeros, one step of the running mean is a known share of the batch's statistics.
    share = 1 - BatchNorm.momentum
    nothing = jax.tree.map(jnp.zeros_like, stats)
    replicated = parallelism.replicated()
    weights = jax.tree.map(lambda leaf: place(leaf, replicated), (params, nothing))
    total, count = nothing[_PART], 0
    batches = pipeline.batches(
        images,
        draw_nothing,
        batch_size=rows,
        epochs=1,
        seed=0,
        train=False,
        threads=run.config.data.threads,
        workers=run.config.data.workers,
    )
    for batch in itertools.islice(batches, max(1, len(images) // rows)):
        found, _ = jax.device_get(compiled(weights, parallelism.put({"image": batch["image"]})))
        total = jax.tree.map(lambda old, new: old + new / share, total, found)
        count += 1
    return jax.tree.map(lambda x: x / count, total)
