"""What training says before and after its first step."""

from __future__ import annotations

import re

import pytest

from ssljax.methods import METHODS
from ssljax.methods.rotation import Rotation
from ssljax.settings.errors import InputError
from ssljax.training.loop import train


class Untraceable(Rotation):
    def loss(self, outputs, context):
        raise InputError("the step is being compiled")


def test_what_is_trained_is_said_before_anything_is_compiled(
    make_config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(METHODS, "rotation", Untraceable)
    with pytest.raises(InputError, match="is being compiled"):
        train(make_config("rotation,small_net"), tmp_path / "run")
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first == (
        "run  rotation on fashion_mnist_10k: 200 images to train on, 100 to validate on, 10 classes"
    )
    assert re.fullmatch(r"run  small_net with [\d,]+ parameters on 4 × cpu; compiling", second)


def test_the_first_step_is_reported_and_where_a_run_continues(make_config, tmp_path, capsys):
    config = make_config("rotation,small_net").copy_and_resolve_references().unlock()
    config.epochs = 1
    train(config, tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    said = r"run  first step done after \d+:\d\d; a line follows every 3 steps and after each epoch"
    assert re.fullmatch(said, lines[2])
    assert lines[3].startswith("run  epoch 1/1  step 3/7")
    config.epochs = 2
    train(config, tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].endswith("; compiling")
    assert lines[2] == "run  continues after step 7 of 14"
    train(config, tmp_path / "run")
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'run'} is trained to step 14 already"
    ]
