"""A job of two processes under Slurm, on this machine, that is preempted and requeued."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import time

import pytest

from ssljax.runs.metrics_log import read_metrics
from tests import slurm_cluster
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT, same

LAUNCH = REPOSITORY / "launch"
OF_TWO = {"JAX_NUM_CPU_DEVICES": "1", "PYTHON": sys.executable}  # a core and a device each

pytestmark = pytest.mark.skipif(not slurm_cluster.installed(), reason="Slurm is not installed")


def flags(folder: pathlib.Path, data_dir: str) -> list[str]:
    """A run of 25 steps an epoch, with a checkpoint every 10."""
    return [
        "--config=tests/tiny.py:classification", f"--workdir={folder}",
        f"--config.data.data_dir={data_dir}", "--config.epochs=12", "--config.batch_size=8",
        "--config.checkpoint_every_steps=10",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(
        [LAUNCH / "local.sh", *flags(folder, data_dir)],
        cwd=REPOSITORY,
        env={**ENVIRONMENT, **OF_TWO, "PROCESSES": "2"},
        check=True,
        timeout=300,
    )
    return folder


@pytest.mark.parametrize("grace", [120, 0], ids=["grace", "no grace"])
def test_a_preempted_job_is_requeued_and_ends_as_if_undisturbed(
    grace, undisturbed, data_dir, tmp_path
):
    """With a grace the job saves, ends and requeues itself; without, Slurm does that."""
    folder, log = tmp_path / "run", tmp_path / "log"
    with slurm_cluster.cluster(grace) as variables:

        def slurm(*command: str) -> str:
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                env={**ENVIRONMENT, **OF_TWO, **variables},
                check=True,
                capture_output=True,
                text=True,
            )
            return done.stdout

        def job() -> dict[str, str]:
            return dict(re.findall(r"(\w+)=(\S*)", slurm("scontrol", "show", "job", number)))

        def ended() -> bool:
            return job()["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

        def wait_until(condition) -> None:
            deadline = time.monotonic() + 240
            while not condition():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)

        number = slurm(
            "sbatch", "--parsable", "--ntasks=2", f"--output={log}",
            str(LAUNCH / "slurm.sh"), *flags(folder, data_dir),
        ).strip()  # fmt: skip
        wait_until(lambda: len(read_metrics(folder)) >= 3 or ended())
        slurm("sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 1")
        wait_until(ended)
        assert job()["JobState"] == "COMPLETED", log.read_text()
        assert job()["Restarts"] == "1"
    said = log.read_text()
    assert ("DUE TO PREEMPTION" in said) == (grace == 0)
    assert len(set(re.findall(r"a checkpoint was saved at step (\d+)", said))) == 1
    assert set(re.findall(r"Exited with exit code (\d+)", said)) == {"143"}
    starts = json.loads((folder / "environment.json").read_text())
    assert len(starts) == 2
    assert same(folder, undisturbed)
