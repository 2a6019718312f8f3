"""Runs that are killed at random moments; `python -m tests.kills` does it more often."""

from __future__ import annotations

import json
import random
import signal
import subprocess

from tests import commands, kills
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT


def test_killed_runs_end_like_undisturbed_ones(data_dir, tmp_path):
    """Ctrl-C, SIGTERM and SIGKILL at random moments; the same command goes on each time."""
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    commands.run("train", *kills.arguments(undisturbed, data_dir, epochs=15))
    command = [*kills.command(folder, data_dir, epochs=15), "--config.data.workers=2"]
    rng = random.Random(0)
    for number, writing in (
        (signal.SIGTERM, False), (signal.SIGKILL, True), (signal.SIGINT, True),
        (signal.SIGKILL, False), (signal.SIGKILL, True),
    ):  # fmt: skip
        result = kills.kill(command, folder, number, rng.random() / 4, writing)
        for _ in range(3 if writing and number == signal.SIGKILL else 0):
            if result["unfinished"]:
                break
            result = kills.kill(command, folder, number, 0, writing)
        assert result["unfinished"] or not writing or number != signal.SIGKILL
        if number == signal.SIGKILL:
            assert result["exit code"] == -signal.SIGKILL
            continue
        assert result["seconds"] < 15
        assert result["exit code"] == 128 + number, result["errors"]
        assert "a checkpoint was saved at step" in result["errors"]
        assert "Traceback" not in result["errors"]
    subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, check=True)
    assert not (folder / "checkpoints/damaged").exists()  # each was complete, with checksums
    assert kills.same(folder, undisturbed)
    assert len(json.loads((folder / "environment.json").read_text())) >= 6
