"""Files and folders that may not be read or written, also for root: without its capabilities."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from ssljax.runs.metrics_log import read_metrics
from ssljax.training.loop import train
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

SETPRIV = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> list[str]:
    """What takes the right to ignore permissions from root."""
    if os.geteuid() != 0:
        return []
    file = tmp_path_factory.mktemp("probe") / "file"
    file.touch(mode=0)
    if not shutil.which("setpriv") or not subprocess.run([*SETPRIV, "cat", file]).returncode:
        pytest.skip("root's capabilities cannot be dropped here")
    return SETPRIV


@pytest.fixture(scope="module")
def small_run(make_config, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("small") / "run"
    config = make_config("classification,small_net")
    config.epochs = 1
    train(config, folder)
    return folder


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("evaluate", "run", "run/config.json"),
        ("evaluate", "run/checkpoints/best", "checkpoints/best: Permission denied"),
        ("evaluate", "run/checkpoints/best/7", "best/7: Permission denied"),
        ("evaluate", "run/checkpoints/best/7/metadata/metadata", "best/7: Permission denied"),
        ("evaluate", "run/checkpoints/best/7/params/manifest.ocdbt", "best/7: Permission denied"),
        ("train", "run/metrics.jsonl", "metrics.jsonl cannot be read: Permission denied"),
        ("train", "run/checkpoints", "checkpoints/latest: Permission denied"),
        ("train", "run/checkpoints/latest", "checkpoints/latest: Permission denied"),
        ("train", "run/checkpoints/latest/7/data", "latest/7: Permission denied"),
        ("train", "tfds", "Permission denied"),
    ],
)
def test_what_may_not_be_read_is_named_and_nothing_is_lost(
    prefix, small_run, data_dir, tmp_path, module, name, said
):
    shutil.copytree(small_run, tmp_path / "run")
    shutil.copytree(data_dir, tmp_path / "tfds")
    (tmp_path / name).chmod(0)
    config = [
        "--config=tests/tiny.py:classification,small_net", "--config.epochs=2",
        f"--config.data.data_dir={tmp_path / 'tfds'}",
    ]  # fmt: skip
    done = subprocess.run(
        [*prefix, sys.executable, "-m", f"ssljax.{module}", f"--workdir={tmp_path / 'run'}",
         *(config if module == "train" else ["--plugin=tests.plugin"])],
        cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    (tmp_path / name).chmod(0o755)
    assert done.returncode in (1, 2)
    line = done.stderr.splitlines()[-1]
    assert said in line
    assert "Traceback" not in done.stderr
    assert "damaged" not in line
    assert read_metrics(tmp_path / "run") == read_metrics(small_run)
    assert not (tmp_path / "run/checkpoints/damaged").exists()


def test_a_folder_that_may_not_be_written(prefix, data_dir, tmp_path):
    tmp_path.chmod(0o555)
    command = [
        sys.executable, "-m", "ssljax.train", "--config=tests/tiny.py:classification,small_net",
        f"--workdir={tmp_path / 'run'}", f"--config.data.data_dir={data_dir}",
    ]  # fmt: skip
    done = subprocess.run(
        [*prefix, *command], cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True
    )
    tmp_path.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr.endswith(f"cannot write {tmp_path / 'run'}: Permission denied\n")
    assert "Traceback" not in done.stderr
