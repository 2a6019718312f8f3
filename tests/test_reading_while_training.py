"""Reading a run that trains, and reading from a file system that fails for a moment."""

from __future__ import annotations

import concurrent.futures
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from ssljax import load_run
from ssljax.runs.saved_checkpoints import ReplacedCheckpoint, SavedCheckpoints
from ssljax.settings.errors import InputError, TrainingFailed
from ssljax.training.loop import train
from tests import commands
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

# Writes checkpoints of a run as fast as it can, as training does every few steps.
WRITER = """
import sys
from ssljax.runs.checkpoints import BEST, LATEST, Checkpoints
checkpoints = Checkpoints(sys.argv[1])
_, first = checkpoints.find(BEST)
metadata = checkpoints.metadata(BEST, first)
metadata.pop("format")
parts = checkpoints.restore_as_saved(BEST, first, ("params", "stats"))
for step in range(100, 10_000):
    checkpoints.save(LATEST, step, parts, metadata, {})
    checkpoints.save(BEST, step, parts, metadata)
    print(step, flush=True)
"""


@pytest.fixture(scope="module")
def small_run(make_config, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("small") / "run"
    config = make_config("classification,small_net")
    config.epochs = 1
    train(config, folder)
    return folder


@pytest.fixture
def run(small_run, tmp_path) -> pathlib.Path:
    return shutil.copytree(small_run, tmp_path / "run")


@pytest.fixture
def writer(run):
    command = [sys.executable, "-c", WRITER, str(run)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "100\n"
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield process
    process.kill()
    process.wait()


def test_readers_beside_a_run_that_writes_checkpoints_do_not_fail(run, writer):
    def read(index: int) -> int:
        return load_run(run, ("best", "latest")[index % 2]).step

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        steps = list(pool.map(read, range(48)))
    assert writer.poll() is None
    assert len(set(steps)) > 8


def test_a_step_that_was_replaced_is_not_called_damaged(run, writer):
    checkpoints = SavedCheckpoints(run)
    while checkpoints.find("latest")[1] < 103:
        time.sleep(0.01)
    with pytest.raises(ReplacedCheckpoint, match="best/100 is gone: the run has replaced it"):
        checkpoints.restore_as_saved("best", 100, ("params",))
    with pytest.raises(InputError, match="no checkpoint '100' in .*; there is best"):
        load_run(run, "100")


def break_a_file(run: pathlib.Path, kind: str) -> tuple[pathlib.Path, bytes]:
    """Makes a file of the parameters one that the system cannot open."""
    (file,) = run.glob(f"checkpoints/{kind}/*/params/manifest.ocdbt")
    content = file.read_bytes()
    file.unlink()
    file.symlink_to(file.name)  # ELOOP
    return file, content


def test_what_cannot_be_read_for_a_moment_is_read_again(run):
    expected = load_run(run).params
    file, content = break_a_file(run, "best")

    def mend() -> None:
        time.sleep(0.3)
        file.unlink()
        file.write_bytes(content)

    threading.Thread(target=mend).start()
    jax.tree.map(np.testing.assert_array_equal, load_run(run).params, expected)


def test_the_systems_errors_do_not_mean_that_a_checkpoint_is_damaged(run, make_config):
    file, content = break_a_file(run, "latest")
    config = make_config("classification,small_net")
    with pytest.raises(TrainingFailed, match=r"latest/7: Too many levels of symbolic links; the"):
        train(config, run)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        load_run(run, "latest")
    file.unlink()
    file.write_bytes(content)
    train(config, run)
    assert not (run / "checkpoints/damaged").exists()
    assert SavedCheckpoints(run).find("latest") == ("latest", 14)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "params/manifest.ocdbt is missing"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:30]),
            "params/manifest.ocdbt has another checksum than when it was written",
        ),
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_short_line(run, damage, said):
    (file,) = run.glob("checkpoints/best/*/params/manifest.ocdbt")
    damage(file)
    done = commands.run("evaluate", f"--workdir={run}", "--plugin=tests.plugin", code=2)
    (line,) = done.stderr.splitlines()
    assert said in line
    assert len(line) < len(str(run)) + 160
