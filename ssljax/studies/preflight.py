"""The checks before a study trains anything."""

from __future__ import annotations

import pathlib
from typing import Any

from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.models import paths
from ssljax.runs import transfer
from ssljax.runs.config import check_train_config, resolve
from ssljax.runs.contamination import check_apart
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say
from ssljax.studies import plan
from ssljax.training.run_step import check_buildable


def check(config: ConfigDict) -> list[str]:
    """Builds every run and opens its data, so that mistakes are found before hours are spent.

    Args:
      config: of the study.

    Returns:
      What is to be known about the test images, see `ssljax.runs.contamination.check_apart`.

    Raises:
      InputError: a run cannot be built, its data cannot be opened, or an arm cannot start from its
        pretext task.
    """
    _check_cells(config)
    if config.probes:
        labelled = open_run(resolve(config.classification))
        for split in ("train", "validation", "test"):
            labelled.records(config.classification.data[f"{split}_split"])
    starts = {name: _check_pretext(name, run) for name, run in config.pretexts.items()}
    if any(arm.start == "weights_file" for arm in config.arms.values()):
        given = config.classification.copy_and_resolve_references()
        given.init_from = config.weights_file
        starts["weights_file"] = transfer.load_source(given).params
    downstream = config.classification.copy_and_resolve_references()
    downstream.data.label_fraction = min(cell.fraction for cell in plan.cells(config))
    params = _shapes(downstream)
    remarks = [_overlap(config)]
    remarks += [check_apart(run, config.classification) for run in config.pretexts.values()]
    for name, arm in config.arms.items():
        layers = plan.arm_layers(config, name)
        try:
            paths.match(layers["frozen_layers"], paths.flatten(params), "frozen_layers")
            if arm.start in config.pretexts:
                _check_start(arm.start, config.pretexts[arm.start], downstream)
            if arm.start != "random":
                transfer.choose(params, starts[arm.start], layers["init_layers"])
        except InputError as error:
            raise InputError(f"arms.{name}: {error}") from error
    return list(dict.fromkeys(filter(None, remarks)))


def _check_pretext(name: str, run: ConfigDict) -> Any:
    """Checks that a pretext task can be built and started; returns its parameters' shapes."""
    params = _shapes(run)
    if run.init_from:
        try:
            transfer.choose(params, transfer.load_source(run).params, run.init_layers)
        except InputError as error:
            raise InputError(f"pretexts.{name}: {error}") from error
    return params


def _check_start(name: str, pretext: ConfigDict, downstream: ConfigDict) -> None:
    """Checks what the shapes of a pretext task's weights do not say."""
    transfer.check_heads(pretext, downstream, name)
    method = pretext.method.name
    if downstream.init_part == "teacher" and not method_class(method).has_teacher:
        raise InputError(
            f"classification.init_part: {name} ({method}) has no teacher; use init_part=student"
        )


def _overlap(config: ConfigDict) -> str:
    """What is to be said of test images that are also images with labels.

    Probes refuse them. Otherwise they are said, as `evaluate` does: the splits are the user's own.
    """
    if "linear" in config.probes:
        chosen_on = config.classification.copy_and_resolve_references()
        chosen_on.data.train_split = chosen_on.data.validation_split
        check_apart(chosen_on, config.classification, "on which the L2 of the probe is chosen")
    try:
        why = "which are the images with labels"
        return check_apart(config.classification, config.classification, why)
    except InputError as error:
        if config.probes:
            raise
        say(f"warning: {error}")
        return str(error)


def _check_cells(config: ConfigDict) -> None:
    """Checks the settings of the arms' runs, and that each run has a folder of its own."""
    folders: dict[str, plan.Cell] = {}
    for cell in plan.cells(config):
        run = plan.arm_run(config, cell, pathlib.Path(), index=0)
        try:
            check_train_config(run.config)
        except InputError as error:
            what = f"arms.{cell.arm}, with {cell.fraction:g} of the labels"
            raise InputError(f"{what}: {error}") from error
        other = folders.setdefault(run.folder.name, cell)
        if other != cell:
            raise InputError(
                f"arms.{other.arm} with the setting {other.setting!r} and arms.{cell.arm} with "
                f"{cell.setting!r} would have the same folder, {run.folder.name}; rename one"
            )


def _shapes(config: ConfigDict) -> Any:
    run = open_run(resolve(config))
    check_buildable(run)
    return run.variable_shapes()[0]
