"""The commands that use a trained run, for the last lines of training."""

from __future__ import annotations

import pathlib
from typing import Any

from ml_collections import ConfigDict

from ssljax.runs.config import complete
from ssljax.runs.run import Run
from ssljax.settings import config_files
from ssljax.settings.options import flatten
from ssljax.settings.printable import quoted

# How a run is trained and begins. It starts from another one with the same data and network.
_RECIPE = ("epochs", "batch_size", "validate_every_epochs", "gradient_accumulation_steps",
           "optimizer", "schedule", "init_part", "init_layers", "frozen_layers")  # fmt: skip


def next_steps(run: Run, folder: pathlib.Path, plugin: str = "") -> list[str]:
    """A line for each command that uses the run in `folder`."""
    name = quoted(str(folder))
    commands = [f"evaluate --workdir={name}"]
    if run.method.names_classes:
        commands.append(f"predict --workdir={name} IMAGE_OR_FOLDER...")
    elif run.class_names:
        commands.append(f"probe --workdir={name}")
        changes = [("method.name", "classification"), ("init_from", folder), *_changes(run.config)]
        settings = " ".join(f"--config.{key}={_text(value)}" for key, value in changes)
        downstream = quoted(f"{folder}-classification")
        commands.append(f"train --config={name}/config.json {settings} --workdir={downstream}")
    plugins = f" --plugin={quoted(plugin)}" if plugin else ""
    return [f"  python -m ssljax.{command}{plugins}" for command in commands]


def _changes(config: ConfigDict) -> list[tuple[str, Any]]:
    """The settings of the classification of configs/pretrain.py that the run's own differ from."""
    pretrain = config_files.shipped() / "pretrain.py"
    usual = flatten(complete(config_files.load(f"{pretrain}:method=classification")))
    own = dict(flatten(config))
    changes = [
        (key, value)
        for key, value in usual
        if key.partition(".")[0] in _RECIPE and own[key] != value
    ]
    if config.model.get("freeze_patch_embed"):
        changes.append(("model.freeze_patch_embed", False))
    return changes


def _text(value: Any) -> str:
    """A value as it is typed in a shell."""
    return str(value).lower() if isinstance(value, bool) else quoted(str(value))
