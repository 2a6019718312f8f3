"""Twenty steps of plain SGD; as a command, one of several processes that take them together.

python -m tests.plain_sgd INDEX COUNT PORT DATA_DIR FOLDER METHOD...
"""

from __future__ import annotations

import pathlib
import sys

import jax
import numpy as np

from ssljax.data import pipeline
from ssljax.devices.parallelism import own_rows
from ssljax.models import paths
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings import config_files
from ssljax.training.run_step import make_run_step
from ssljax.training.step import make_evaluation_step
from tests import tiny

STEPS = 20


def run_sgd(config, mode: str, count: int, accumulation: int = 1) -> dict[str, np.ndarray]:
    """Twenty steps of plain SGD, with dropout; Adam would hide a gradient N times too large.

    Returns:
      Losses, every leaf of the state, metrics and outputs of an evaluated batch, by name.
    """
    config = config.copy_and_resolve_references().unlock()
    config.parallelism, config.gradient_accumulation_steps = mode, accumulation
    config.optimizer.name, config.optimizer.learning_rate = "sgd", 0.05
    if config.method.name == "vicreg":  # its terms are weighted by 25, and rounding would grow
        config.optimizer.learning_rate /= 25
    run = open_run(resolve(config))
    run_step = make_run_step(run, steps_per_epoch=7, devices=jax.devices()[:count])
    parallelism = run_step.parallelism
    state = run_step.new_state()
    batches = pipeline.batches(
        run.images(config.data.train_split), run.method.draw, batch_size=config.batch_size,
        epochs=5, seed=0, train=True, random_crop=True, count_repeated=run.method.couples_examples,
    )  # fmt: skip
    results = {}
    for index, batch in zip(range(STEPS), batches, strict=False):
        state, sums = run_step.train_step(state, parallelism.put(batch))
        results[f"loss {index}"] = np.asarray(sums["loss"][0] / sums["loss"][1])
    results["gradient_norm"] = np.asarray(sums["gradient_norm"][0])
    weights = state.weights()
    for part in ("params", "stats", "teacher", "memory"):
        leaves = paths.flatten(jax.device_get(weights[part]))
        results |= {f"{part} {path}": leaf for path, leaf in leaves.items()}
    evaluate = parallelism.evaluation_step(make_evaluation_step(run))
    sums, outputs = evaluate(weights, parallelism.put(batch))
    results |= {f"metric {name}": np.asarray(total) for name, (total, *_) in sums.items()}
    outputs = outputs if isinstance(outputs, dict) else {"": outputs}
    return results | {f"outputs {name}": own_rows(rows) for name, rows in outputs.items()}


def assert_same(got, expected) -> None:
    """Everything is equal but for float32's rounding."""
    assert set(got) == set(expected)
    for name, value in expected.items():
        tolerance = (
            {"rtol": 1e-5, "atol": 1e-5}
            if name.startswith("outputs")
            else {"rtol": 1e-4, "atol": 2e-6}
        )
        if name.startswith("loss"):
            tolerance = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(got[name], value, **tolerance, err_msg=name)


def main(index: int, count: int, port: int, data_dir: str, folder: str, *methods: str) -> None:
    """Joins the other processes, trains, and writes what this process sees of each method."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", count, index)
    for method in methods:
        config = config_files.load(f"{pathlib.Path(__file__).parent}/tiny.py:{method},small_net")
        config.data.data_dir = data_dir
        tiny.drop(config)
        np.savez(f"{folder}/{method}-{index}.npz", **run_sgd(config, "jit", jax.device_count()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:])
