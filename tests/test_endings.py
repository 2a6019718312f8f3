"""How commands end: signals, outputs that cannot be written, folders that are not there."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time

import pytest

from ssljax.devices.signals import Interruption
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from tests import kills
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT
from tests.test_reader_processes import children


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"ssljax.{module}", *arguments]


def start(arguments: list[str], **options) -> subprocess.Popen:
    settings = {"cwd": REPOSITORY, "env": ENVIRONMENT, "text": True, "stderr": subprocess.PIPE}
    return subprocess.Popen(arguments, **{**settings, **options})


def wait_for_rows(process: subprocess.Popen, folder, count: int) -> None:
    while len(read_metrics(folder)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("module", ["evaluate", "predict"])
def test_sigterm_ends_at_any_moment_without_a_traceback(module, classification_run):
    """Python itself takes a moment to start; until then SIGTERM has its default action."""
    arguments = [f"--workdir={classification_run}"]
    arguments += [f"{REPOSITORY}/docs/images/report.png"] if module == "predict" else []
    rng, ended = random.Random(0), 0
    for _ in range(6):
        process = start(command(module, *arguments), stdout=subprocess.DEVNULL)
        time.sleep(rng.random() * 4)
        finished = process.poll() is not None
        process.terminate()
        said = process.communicate(timeout=60)[1]
        finished |= process.returncode == 0  # its last moments need no handling
        if not finished:
            ended += 1
            assert process.returncode in (143, -signal.SIGTERM), said
            assert said.endswith(f"ssljax-{module}: terminated\n") or process.returncode < 0
            assert "Traceback" not in said
    assert ended


def test_ctrl_c_is_acknowledged_and_the_third_ends_without_a_checkpoint(capfd):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    said = []
    with Interruption() as interruption:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
            said += capfd.readouterr().err.splitlines()
        assert interruption.signal_number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert said == [
        "SIGTERM: training ends after this step, with a checkpoint",
        "SIGTERM again: the checkpoint is still to be saved",
        "Ctrl-C again: the checkpoint is still to be saved; two more Ctrl-C end without it",
        "Ctrl-C again: the checkpoint is still to be saved; the next Ctrl-C ends without it",
    ]
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def test_nohup_is_respected():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_closed_terminal_saves_a_checkpoint(data_dir, tmp_path):
    ours, theirs = pty.openpty()

    def in_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = start(
        # No checkpoint is saved otherwise before the end of the first epoch, which has 25 steps.
        [*kills.command(tmp_path, data_dir, epochs=1000), "--config.checkpoint_every_steps=0"],
        stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=in_the_terminal,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    while len(rows := read_metrics(tmp_path)) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    os.close(ours)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert SavedCheckpoints(tmp_path).step("latest") >= rows[-1]["step"]


def test_sigterm_is_answered_while_the_reader_processes_are_stopped(data_dir, tmp_path):
    arguments = [*kills.command(tmp_path, data_dir, epochs=10_000), "--config.data.workers=2"]
    process = start(arguments)
    wait_for_rows(process, tmp_path, 3)
    while len(readers := children(process.pid)) < 2:
        time.sleep(0.1)
    time.sleep(5)  # they are ready, too
    for reader in readers:
        os.kill(reader, signal.SIGSTOP)
    try:
        rows = len(read_metrics(tmp_path))
        wait_for_rows(process, tmp_path, rows + 20)
        process.terminate()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 143, said
        assert "has not answered for 10 seconds; the training process reads its batches" in said
        assert "SIGTERM: training ends after this step, with a checkpoint" in said
    finally:
        for reader in readers:
            os.kill(reader, signal.SIGKILL)


@pytest.mark.quick
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["ssljax"], ["ssljax.evaluate", "--help"]])
def test_an_output_that_cannot_be_written(arguments, unbuffered):
    arguments = [sys.executable, "-m", *arguments]
    environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        process = start(arguments, stdout=full, env=environment)
        said = process.communicate(timeout=60)[1]
        assert said.endswith(": standard output: No space left on device\n")
        assert (process.returncode, said.count("\n")) == (1, 1)
        process = start(arguments, stdout=subprocess.DEVNULL, stderr=full, env=environment)
        assert process.wait(60) == 0
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does
    process = start(arguments, stdout=writer, env=environment)
    os.close(writer)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_training_goes_on_if_nobody_reads_its_messages(data_dir, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(kills.command(tmp_path, data_dir, epochs=1), stderr=writer)
    os.close(writer)
    assert process.wait(120) == 0
    assert read_metrics(tmp_path)[-1]["step"] == 25


@pytest.mark.parametrize("platforms", ["cuda", "no_such"])
def test_platforms_that_jax_cannot_use(classification_run, platforms):
    environment = {**ENVIRONMENT, "JAX_PLATFORMS": platforms}
    process = start(command("evaluate", f"--workdir={classification_run}"), env=environment)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert said.startswith(f"ssljax-evaluate: JAX_PLATFORMS={platforms}: ")
    assert said.count("\n") == 1


@pytest.mark.quick
def test_a_working_folder_that_was_removed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    environment = {**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)}
    process = start(command("evaluate", "--workdir=run"), cwd=folder, env=environment,
                    preexec_fn=lambda: os.rmdir(folder))  # fmt: skip
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert said == ("ssljax-evaluate: the working folder has been removed; change to another one\n")
