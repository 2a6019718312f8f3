"""The runs of a study: which there are, their configs and folders, and what each of them needs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection

from ml_collections import ConfigDict

from ssljax.settings.errors import InputError, nearest
from ssljax.studies import probing
from ssljax.studies.probing import Probing


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm at one share of the labels under one setting; it is run with several seeds.

    Attributes:
      arm: its name.
      fraction: of the labels.
      setting: a name in the study's `settings`, or empty if there are none.
    """

    arm: str
    fraction: float
    setting: str


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run of the study.

    Attributes:
      config: of the run.
      folder: its run folder.
      needed: the name of the pretext run that must be finished first, if there is one.
      probing: what is probed of it afterwards, if anything is.
    """

    config: ConfigDict
    folder: pathlib.Path
    needed: str = ""
    probing: Probing | None = None


def cells(config: ConfigDict) -> list[Cell]:
    """All cells of a study; those of arms that start from random weights come first."""
    arms = sorted(config.arms.items(), key=lambda item: item[1].start != "random")
    return [
        Cell(name, fraction, setting)
        for name, arm in arms
        for fraction in arm.label_fractions or config.label_fractions
        for setting in setting_names(config)
        if setting in (arm.settings or setting_names(config))
    ]


def part(config: ConfigDict, only: Collection[str]) -> tuple[set[str], set[str]]:
    """The names of the pretext tasks and of the arms that belong to a part of a study.

    Args:
      config: of the study.
      only: names of pretext tasks and arms, both if they have the same name. An arm brings the
        pretext task that it starts from. Empty: all.

    Raises:
      InputError: an unknown name.
    """
    known = {**config.pretexts, **config.arms}
    for name in only:
        if name not in known:
            raise InputError(
                f"--only: {name!r} is no pretext task and no arm; {nearest(name, known)}"
            )
    arms = {name for name in config.arms if not only or name in only}
    needed = {config.arms[name].start for name in arms}
    pretexts = {name for name in config.pretexts if not only or name in {*only, *needed}}
    return pretexts, arms


def setting_names(config: ConfigDict) -> list[str]:
    """The settings that arms choose from; the reference setting comes first."""
    names = sorted(config.settings)
    return sorted(names, key=lambda name: name != config.reference_setting) or [""]


def pretext_runs(config: ConfigDict, folder: pathlib.Path, index: int) -> dict[str, PlannedRun]:
    """The pretext runs of a seed, by name.

    Args:
      config: of the study.
      folder: of the seed.
      index: of the seed, from 0.
    """
    runs = {}
    for name, pretext in config.pretexts.items():
        run = pretext.copy_and_resolve_references()
        run.seed += index
        planned = probing.plan(config, name)
        runs[name] = PlannedRun(run, folder / f"pretext-{name}", probing=planned)
    return runs


def arm_layers(config: ConfigDict, arm: str) -> dict[str, str]:
    """An arm's `init_layers` and `frozen_layers`; where it has none, the classification's hold."""
    own, shared = config.arms[arm], config.classification
    return {key: own[key] or shared[key] for key in ("init_layers", "frozen_layers")}


def arm_run(config: ConfigDict, cell: Cell, folder: pathlib.Path, index: int) -> PlannedRun:
    """The run of a cell with a seed; the arguments are those of `pretext_runs`."""
    arm = config.arms[cell.arm]
    run = config.classification.copy_and_resolve_references()
    run.seed += index
    run.update(arm_layers(config, cell.arm))
    if arm.start == "weights_file":
        run.init_from = config.weights_file
    elif arm.start != "random":
        run.init_from = str(folder / f"pretext-{arm.start}")
    name = f"arm-{cell.arm}"
    if cell.fraction != 1:
        name += f"-labels-{cell.fraction:g}"
        run.data.label_fraction = cell.fraction
    if config.label_epochs:
        epochs = config.label_epochs[list(config.label_fractions).index(cell.fraction)]
        # Decay, validation and warm-up keep their relative places in a longer schedule.
        for setting, key in ((run.schedule, "every_epochs"), (run, "validate_every_epochs")):
            setting[key] = max(1, round(setting[key] * epochs / run.epochs))
        run.schedule.warmup_epochs = run.schedule.warmup_epochs * epochs / run.epochs
        run.epochs = epochs
    if cell.setting:
        name += f"-{cell.setting}"
        run.optimizer.update(config.settings[cell.setting])
    return PlannedRun(run, folder / name, needed=arm.start)
