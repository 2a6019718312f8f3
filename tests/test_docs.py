"""What the docs show is what runs."""

from __future__ import annotations

import importlib
import re
import subprocess

import pytest

from ssljax import tasks
from ssljax.training.loop import train
from ssljax.training.run_folder import read_metrics
from tests.conftest import REPOSITORY

HEADER = """
import dataclasses
from typing import ClassVar
import jax.numpy as jnp, numpy as np, optax
from ssljax.tasks.task import Task
"""


def test_the_task_that_the_docs_add_can_be_trained(make_config, tmp_path, monkeypatch):
    text = (REPOSITORY / "docs/tasks.md").read_text()
    code = re.search(r"```python\n(@dataclasses.*?)```", text, re.DOTALL)
    (tmp_path / "rotation.py").write_text(HEADER + code.group(1))
    monkeypatch.syspath_prepend(tmp_path)
    rotation = importlib.import_module("rotation")
    monkeypatch.setitem(tasks.TASKS, "rotation", rotation.Rotation)
    config = make_config("jigsaw")
    config.task = {"name": "rotation", "turns": 2}
    config.epochs = 10
    train(config, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "validation"]
    assert rows[-1]["accuracy"] > 0.6  # half is guessing


def tracked(*patterns: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", *patterns], cwd=REPOSITORY, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.split()


def test_links_between_the_docs_lead_somewhere():
    for name in tracked("*.md"):
        page = REPOSITORY / name
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{name}: {link}"


def test_files_are_short_and_their_names_say_something():
    for name in tracked("ssljax/*.py", "configs/*.py"):
        lines = (REPOSITORY / name).read_text().count("\n")
        assert lines <= 400, f"{name} has {lines} lines"
        assert not re.search(r"(^|/)(utils?|common|helpers?|misc)(\.py|/)", name), name
