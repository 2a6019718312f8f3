"""Twenty steps of plain SGD; as a command, one of several processes that take them together.

python -m tests.plain_sgd INDEX COUNT PORT DATA_DIR OUT
"""

from __future__ import annotations

import pathlib
import sys

import jax
import numpy as np

from ssljax import config_files
from ssljax.data import pipeline
from ssljax.training.optimizers import make_optimizer
from ssljax.training.parallelism import Parallelism
from ssljax.training.run import make_run, open_class_names
from ssljax.training.steps import initial_state, make_evaluation_step, make_train_step

STEPS = 20


def run_sgd(config, mode: str, count: int, accumulation: int = 1):
    """Twenty steps of plain SGD, with dropout; Adam would hide a gradient N times too large."""
    run = make_run(config, open_class_names(config))
    parallelism = Parallelism(mode, config.batch_size, accumulation, jax.devices()[:count])
    optimizer = make_optimizer(
        {"name": "sgd", "weight_decay": 1e-3, "momentum": 0.0}, lambda step: 0.05
    )
    state = jax.jit(
        lambda: initial_state(run.model, optimizer, run.task.image_size, seed=0),
        out_shardings=parallelism.replicated(),
    )()
    step = parallelism.train_step(make_train_step(run.model, run.task, optimizer, 0, accumulation))
    batches = pipeline.batches(
        run.pictures(config.data.train_split), run.task,
        batch_size=config.batch_size, epochs=5, seed=0, train=True, random_crop=True,
    )  # fmt: skip
    losses = []
    for _, batch in zip(range(STEPS), batches, strict=False):
        state, sums = step(state, parallelism.put(batch))
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    sums, outputs = parallelism.evaluation_step(make_evaluation_step(run.model, run.task))(
        state.params, parallelism.put(batch)
    )
    if not outputs.is_fully_addressable:  # this process's part of the batch
        shards = sorted(outputs.addressable_shards, key=lambda shard: shard.index[0].start)
        outputs = np.concatenate([np.asarray(shard.data) for shard in shards])
    return losses, jax.device_get(state.params), jax.device_get(sums), np.asarray(outputs)


def main(index: int, count: int, port: int, data_dir: str, out: str) -> None:
    """Joins the other processes, trains, and writes what this process sees of it."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", count, index)
    config = config_files.load(str(pathlib.Path(__file__).with_name("tiny.py")) + ":classification")
    config.data.data_dir = data_dir
    losses, params, sums, outputs = run_sgd(config, "jit", jax.device_count())
    leaves = {f"{layer} {name}": leaf for layer in params for name, leaf in params[layer].items()}
    leaves |= {name: np.array(values) for name, values in sums.items()}
    np.savez(out, losses=losses, outputs=outputs, **leaves)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:4]]
    main(*numbers, *sys.argv[4:])
