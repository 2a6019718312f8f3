"""Kills a run again and again and compares its end with an undisturbed one's.

    python -m tests.kills [--times=20] [--seed=0]

Prints a row per kill: the signal, the step of the last checkpoint, and whether a checkpoint was
being written. Ends with exit code 1 if parameters, optimiser or metrics differ in one bit.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from ssljax.runs.metrics_log import read_metrics
from tests.fast_compilation import FLAGS

REPOSITORY = pathlib.Path(__file__).parent.parent
# Two devices of the CPU, whatever its cores.
ENVIRONMENT = {
    **os.environ,
    "JAX_NUM_CPU_DEVICES": "2",
    "XLA_FLAGS": FLAGS,
}
ITEMS = ("params", "stats", "teacher", "memory", "optimizer")
TIMED = re.compile("images_per_second|input_wait")


def command(folder: pathlib.Path, data_dir: str, epochs: int) -> list[str]:
    """Trains a run as a process."""
    return [sys.executable, "-m", "ssljax.train", *arguments(folder, data_dir, epochs)]


def arguments(folder: pathlib.Path, data_dir: str, epochs: int) -> list[str]:
    """A run of 25 steps an epoch, with a checkpoint every 10."""
    return [
        "--config=tests/tiny.py:classification,small_net",
        f"--workdir={folder}", f"--config.data.data_dir={data_dir}", f"--config.epochs={epochs}",
        "--config.batch_size=8", "--config.checkpoint_every_steps=10",
    ]  # fmt: skip


def being_written(folder: pathlib.Path) -> bool:
    """Whether there is an unfinished checkpoint in the run folder."""
    return any((folder / "checkpoints").glob("*/*tmp*"))


def kill(
    command: list[str], folder: pathlib.Path, number: int, wait: float, writing: bool
) -> dict[str, Any]:
    """Starts the run, kills it a while after it has begun to train, and tells how it ended.

    Args:
      number: the signal.
      wait: seconds to wait after three more rows of metrics.
      writing: strike while a checkpoint is being written.
    """
    already = len(read_metrics(folder))
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and len(read_metrics(folder)) < already + 3:
        time.sleep(0.01)
    time.sleep(wait)
    while process.poll() is None and writing and not being_written(folder):
        pass
    process.send_signal(number)
    start = time.monotonic()
    _, errors = process.communicate(timeout=120)
    steps = [int(path.name) for path in folder.glob("checkpoints/latest/*") if path.name.isdigit()]
    return {
        "signal": signal.Signals(number).name,
        "exit code": process.returncode,
        "seconds": time.monotonic() - start,
        "step": max(steps, default=0),
        "unfinished": being_written(folder),
        "errors": errors,
    }


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of metrics without what was timed."""
    return [{key: value for key, value in row.items() if not TIMED.match(key)} for row in rows]


def state(folder: pathlib.Path) -> tuple[list[Any], list[dict[str, Any]]]:
    """Every array of the latest and the best checkpoint, and the metrics but for what was timed."""
    import jax
    import orbax.checkpoint as ocp

    checkpointer = ocp.StandardCheckpointer()
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    arrays = []
    for kind, item in itertools.product(("latest", "best"), ITEMS):
        found = list((folder / "checkpoints").glob(f"{kind}/*/{item}"))
        if not found:
            continue
        newest = max(found, key=lambda path: int(path.parent.name))
        like = jax.tree.map(  # the devices that wrote it need not be here
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            checkpointer.metadata(newest).item_metadata.tree,
        )
        arrays += [
            np.array(int(newest.parent.name)),
            *jax.tree.leaves(checkpointer.restore(newest, like)),
        ]
    checkpointer.close()
    return arrays, untimed(read_metrics(folder))


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two runs ended with the same parameters, optimiser state and metrics, to the bit."""
    (arrays, rows), (other_arrays, other_rows) = state(one), state(other)
    return (
        len(arrays) == len(other_arrays)
        and all(
            np.array_equal(np.asarray(a), np.asarray(b))
            for a, b in zip(arrays, other_arrays, strict=True)
        )
        and rows == other_rows
    )


def main() -> None:
    """Runs once undisturbed, then kills, restarts and compares."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [pathlib.Path(scratch, name) for name in ("undisturbed", "killed")]
        commands = [command(folder, f"{scratch}/tfds", 4 * options.times) for folder in folders]
        subprocess.run(commands[0], cwd=REPOSITORY, env=ENVIRONMENT, check=True)
        for index in range(options.times):
            result = kill(commands[1], folders[1], signal.SIGKILL, rng.random(), index % 2 == 1)
            print(
                f"kill {index + 1:2}  {result['signal']}  last checkpoint at step {result['step']}"
                + ("  while one was being written" if result["unfinished"] else ""),
                flush=True,
            )
        subprocess.run(commands[1], cwd=REPOSITORY, env=ENVIRONMENT, check=True)
        equal = same(*folders)
    print("bit-equal to the undisturbed run" if equal else "DIFFERENT from the undisturbed run")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
