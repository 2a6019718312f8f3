"""Runs of several real processes on this machine, over JAX's distributed runtime."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from ssljax.devices import distributed, processes
from ssljax.evaluate import evaluate
from ssljax.probe import probe
from ssljax.runs.metrics_log import read_metrics
from ssljax.settings.errors import InputError
from tests.commands import run
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT, being_written, same

TIMEOUT = 240


class Launched:
    """Processes of one command, one device each."""

    def __init__(self, count, program, *flags, folders=None):
        """program is a module, or code."""
        start = ["-c", program] if " " in program else ["-m", program]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = [
            subprocess.Popen(
                [sys.executable, *start, *flags],
                cwd=folders[index] if folders else REPOSITORY,
                env={
                    **ENVIRONMENT,
                    "JAX_NUM_CPU_DEVICES": "1",
                    "PYTHONPATH": str(REPOSITORY),
                    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                    "JAX_NUM_PROCESSES": str(count),
                    "JAX_PROCESS_ID": str(index),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]

    def end(self):
        """Exit codes and what was said to standard error."""
        said = [process.communicate(timeout=TIMEOUT)[1] for process in self.processes]
        return [process.returncode for process in self.processes], said


class LocalSh:
    """`launch/local.sh` with two processes of one device each."""

    def __init__(self, *flags):
        self.shell = subprocess.Popen(
            ["bash", "launch/local.sh", *flags],
            cwd=REPOSITORY,
            env={**ENVIRONMENT, "JAX_NUM_CPU_DEVICES": "1", "PROCESSES": "2",
                 "PYTHON": sys.executable},
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def strike(self, index, number, ready):
        """Sends a signal to one of the two once ready() is true."""
        while not ready():
            assert self.shell.poll() is None, self.end()
            time.sleep(0.05)
        children = pathlib.Path(f"/proc/{self.shell.pid}/task/{self.shell.pid}/children")
        os.kill(int(children.read_text().split()[index]), number)
        return time.monotonic()

    def end(self):
        """The exit code, and what both said to standard error."""
        _, said = self.shell.communicate(timeout=TIMEOUT)
        return self.shell.returncode, said


def flags(folder, data_dir):
    return [
        "--config=tests/tiny.py:moco_v2,small_net",
        f"--workdir={folder}",
        f"--config.data.data_dir={data_dir}",
        "--config.epochs=4",
        "--config.probes.knn.every_epochs=1",
    ]


def last_step(folder):
    steps = [int(path.name) for path in folder.glob("checkpoints/latest/*") if path.name.isdigit()]
    return max(steps, default=0)


def train_alone(folder, data_dir):
    """One process with two devices."""
    run("train", *flags(folder, data_dir))


def test_killed_stopped_and_continued_runs_end_like_an_undisturbed_one(data_dir, tmp_path):
    train_alone(tmp_path / "undisturbed", data_dir)
    folder = tmp_path / "run"
    command = flags(folder, data_dir)

    # One of two is killed: the other notices and says so.
    both = LocalSh(*command)
    struck = both.strike(1, signal.SIGKILL, lambda: last_step(folder) > 0)
    code, said = both.end()
    assert time.monotonic() - struck < 90
    assert code == 128 + signal.SIGKILL  # the higher one
    assert "another process of the run has ended" in said or "another task died" in said

    # SIGTERM to one of two: both write the same checkpoint and leave.
    rows = len(read_metrics(folder))
    both = LocalSh(*command)
    both.strike(1, signal.SIGTERM, lambda: len(read_metrics(folder)) > rows)
    code, said = both.end()
    assert code == 128 + signal.SIGTERM
    step = last_step(folder)
    assert said.count(f"a checkpoint was saved at step {step}, and the same") == 2
    assert not being_written(folder)

    # One process of two devices takes over.
    train_alone(folder, data_dir)
    assert same(folder, tmp_path / "undisturbed")
    starts = json.loads((folder / "environment.json").read_text())
    assert [(start["processes"], len(start["devices"])) for start in starts] == [
        (2, 2), (2, 2), (1, 2),
    ]  # fmt: skip


def test_evaluation_counts_every_example_once(classification_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(classification_run, folder)
    expected = evaluate(folder)
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    codes, said = Launched(2, "ssljax.evaluate", f"--workdir={folder}").end()
    assert codes == [0, 0], said
    (path,) = (folder / "evaluation").glob("*.json")
    result = json.loads(path.read_text())
    assert result["confusion"] == expected["confusion"]
    assert result["hits"] == expected["hits"]
    assert result["metrics"] == pytest.approx(expected["metrics"])
    assert result["examples"] == 133


def test_probes_count_every_example_once(classification_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(classification_run, folder)
    expected = probe(folder)
    flags_ = [f"--workdir={folder}", f"--json={tmp_path / 'rows.json'}"]
    codes, said = Launched(2, "ssljax.probe", *flags_).end()
    assert codes == [0, 0], said
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["examples"] for row in rows] == [133] * 3
    for row, one in zip(rows, expected, strict=True):
        assert {**row, "l2": 0} == pytest.approx({**one, "l2": 0}, abs=1.5 / 133)


def test_what_one_process_cannot_read_ends_all(data_dir, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    os.symlink(data_dir, tmp_path / "here" / "data")
    command = [f"--config={REPOSITORY}/tests/tiny.py:jigsaw", f"--workdir={tmp_path / 'run'}"]
    (tmp_path / "there" / "data").write_text("no folder")
    folders = [tmp_path / "here", tmp_path / "there"]
    start = time.monotonic()
    codes, said = Launched(
        2, "ssljax.train", *command, "--config.data.data_dir=data", folders=folders
    ).end()
    assert codes == [2, 2], said
    assert time.monotonic() - start < 60
    assert "process 1: " in said[0]
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_is_not_shared_is_refused(data_dir, tmp_path):
    folders = [tmp_path / "here", tmp_path / "there"]
    for folder in folders:
        folder.mkdir()
    command = [
        f"--config={REPOSITORY}/tests/tiny.py:jigsaw",
        "--workdir=run",
        f"--config.data.data_dir={data_dir}",
    ]
    code = "from ssljax.devices import processes; processes._VISIBLE = 1\n"
    code += "from ssljax.train import cli; cli()"
    codes, said = Launched(2, code, *command, folders=folders).end()
    assert codes == [2, 2], said
    assert all("must be on storage that all machines share" in text for text in said)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"JAX_NUM_PROCESSES": "2"},
            "needs JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID: set all three",
        ),
        (("host:1", "2", "2"), "JAX_PROCESS_ID=2 of JAX_NUM_PROCESSES=2"),
        (("host:1", "two", "0"), "JAX_NUM_PROCESSES=two"),
        (("host", "2", "0"), "JAX_COORDINATOR_ADDRESS=host must be HOST:PORT"),
    ],
)
def test_what_a_launcher_says_is_checked(monkeypatch, variables, message):
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    if isinstance(variables, tuple):
        variables = dict(zip(names, variables, strict=True))
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        distributed.join()


def test_a_study_runs_on_a_tpu_machine_that_is_alone(monkeypatch):
    """The machine has a TPU; here it is the CPU that says how many processes there are."""
    monkeypatch.setattr(distributed, "_found", lambda: True)
    distributed.refuse("a study")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    with pytest.raises(InputError, match="a study cannot run as one job of several processes"):
        distributed.refuse("a study")


def test_a_message_with_a_path_that_is_no_text_reaches_the_others():
    name = os.fsdecode(b"caf\xe9.jpg")
    assert processes.gather_texts(f"no file {name}") == ["no file caf?.jpg"]


def test_it_is_said_who_is_waited_for():
    script = "from ssljax.devices import distributed as d; d._PATIENCE = 2; d.join()"
    environment = {
        **ENVIRONMENT,
        "PYTHONPATH": str(REPOSITORY),
        "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert result.returncode
    assert "process 1 of 2 waits for the others at 127.0.0.1:1" in result.stderr
