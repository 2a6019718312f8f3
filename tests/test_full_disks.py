"""Disks that are full, and files that must not grow."""

from __future__ import annotations

import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import jax
import numpy as np
import pytest

import ssljax
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings.errors import InputError, TrainingFailed
from ssljax.training.loop import train
from tests import commands, kills
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT, same


def latest_params(folder):
    checkpoints = SavedCheckpoints(folder)
    parts = checkpoints.restore_as_saved("latest", checkpoints.step("latest"), ("params",))
    return parts["params"]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[pathlib.Path]:
    """A disk of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield small
    subprocess.run(["umount", "-l", str(small)], check=True)


def fill(disk: pathlib.Path, left: int) -> None:
    (disk / "ballast").write_bytes(b"x" * (shutil.disk_usage(disk).free - left))


def test_a_full_disk_ends_the_run_and_the_last_checkpoint_restores(make_config, small_disk):
    config, run = make_config("jigsaw,small_net"), small_disk / "run"
    config.epochs = 1
    train(config, run)
    good = latest_params(run)
    fill(small_disk, 20_000)
    config.epochs = 4
    with pytest.raises(TrainingFailed, match=r"cannot write .*the last good checkpoint is .*/7"):
        train(config, run)
    jax.tree.map(np.testing.assert_array_equal, latest_params(run), good)
    (small_disk / "ballast").unlink()
    train(config, run)
    assert read_metrics(run)[-1]["step"] == 28


def test_an_import_that_does_not_fit_leaves_nothing(classification_run, small_disk, tmp_path):
    weights, run = tmp_path / "weights", small_disk / "run"
    ssljax.export_weights(classification_run, weights)
    fill(small_disk, 50_000)
    with pytest.raises((TrainingFailed, InputError), match="cannot write"):
        ssljax.import_weights(weights, run)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    (small_disk / "ballast").unlink()
    ssljax.import_weights(weights, run)
    jax.tree.map(
        np.testing.assert_array_equal,
        ssljax.load_run(run).params,
        ssljax.load_run(classification_run).params,
    )


@pytest.mark.parametrize("left", [0, 4096])
def test_a_full_disk_between_checkpoints_ends_the_run(make_config, small_disk, tmp_path, left):
    """Neither the metrics nor TensorBoard's events can be written."""
    config, run = make_config("classification,small_net"), small_disk / "run"
    config.log_every_steps, config.validate_every_epochs, config.epochs = 1, 30, 30

    def fill_after(rows: int) -> None:
        while len(read_metrics(run)) < rows:
            time.sleep(0.001)
        fill(small_disk, left)

    filling = threading.Thread(target=fill_after, args=[3])
    filling.start()
    start = time.monotonic()
    with pytest.raises(TrainingFailed, match="No space left on device; there is no complete check"):
        train(config, run)
    assert time.monotonic() - start < 60
    filling.join()
    (small_disk / "ballast").unlink()
    train(config, run)
    train(config, tmp_path / "undisturbed")
    assert same(run, tmp_path / "undisturbed")


def test_a_metrics_file_that_cannot_grow_loses_no_row(data_dir, tmp_path):
    """The run ends with a checkpoint of this step, and goes on to the same end."""
    arguments = {}
    for name in ("undisturbed", "limited"):
        arguments[name] = [
            *kills.arguments(tmp_path / name, data_dir, epochs=3), "--config.log_every_steps=1",
            "--config.checkpoint_every_steps=0",
        ]  # fmt: skip
    commands.run("train", *arguments["undisturbed"])
    limit = (tmp_path / "undisturbed/metrics.jsonl").stat().st_size // 2

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-m", "ssljax.train", *arguments["limited"]],
        cwd=REPOSITORY, env=ENVIRONMENT, preexec_fn=limited, timeout=120,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = done.stderr
    assert done.returncode == 1, said
    step = SavedCheckpoints(tmp_path / "limited").step("latest")
    assert f"File too large; the last good checkpoint is {tmp_path}/limited" in said
    assert said.endswith(f"latest/{step}\n")
    assert step == read_metrics(tmp_path / "limited")[-1]["step"] + 1
    commands.run("train", *arguments["limited"])
    assert same(tmp_path / "undisturbed", tmp_path / "limited")
