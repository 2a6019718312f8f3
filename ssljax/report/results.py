"""What a study's runs add up to: which setting each arm chose, means and spreads."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm at one share of the labels under one setting; it is run with several seeds.

    Attributes:
      setting: a name in the study's `settings`, or empty where there are none.
    """

    arm: str
    fraction: float
    setting: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
      test: what `evaluate` returned for the test split.
      validation: the rows of metrics.jsonl, one per epoch.
    """

    folder: pathlib.Path
    test: dict[str, Any]
    validation: list[dict[str, Any]]


def cells(config: ConfigDict) -> list[Cell]:
    """All cells of a study, those from random weights first."""
    arms = sorted(config.arms.items(), key=lambda item: item[1].start != "random")
    return [
        Cell(name, fraction, setting)
        for name, arm in arms
        for fraction in arm.label_fractions or config.label_fractions
        for setting in setting_names(config)
        if setting in (arm.settings or setting_names(config))
    ]


def setting_names(config: ConfigDict) -> list[str]:
    """The settings that arms choose from, the slides' own first."""
    return sorted(config.settings, key=lambda name: name != "slides") or [""]


def choose(outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """The setting with the best validation top-1 (at its best epoch) with the first seed."""
    return max(outcomes, key=lambda name: max(row["top1"] for row in outcomes[name][0].validation))


def repeated(cell: Cell, done: Mapping[Cell, Sequence[Outcome]]) -> set[str]:
    """The settings that seeds after the first are spent on: the first one and the chosen one."""
    settings = {
        other.setting: outcomes
        for other, outcomes in done.items()
        if (other.arm, other.fraction) == (cell.arm, cell.fraction)
    }
    return {next(iter(settings)), choose(settings)}


def collect(
    config: ConfigDict,
    pretexts: Mapping[str, Sequence[Outcome]],
    done: Mapping[Cell, Sequence[Outcome]],
) -> dict[str, Any]:
    """Everything the report shows, as JSON values.

    Returns:
      `pretexts` by name, each a summary; `arms` by name, each with `labels`: for each share of the
      labels the `settings` by name, each a summary, and the name of the `best` one. A summary has
      `mean` and `std` of the test metrics over the seeds (`std` is None for one seed), `floor`,
      `runs` and `curves`.
    """
    arms: dict[str, Any] = {}
    for cell, outcomes in done.items():
        description = {
            key: value
            for key, value in config.arms[cell.arm].to_dict().items()
            if key not in ("label_fractions", "settings")
        }
        arm = arms.setdefault(cell.arm, {**description, "labels": {}})
        share = arm["labels"].setdefault(
            f"{cell.fraction:g}", {"fraction": cell.fraction, "settings": {}}
        )
        share["settings"][cell.setting] = _summary(outcomes)
    for name, arm in arms.items():
        for share in arm["labels"].values():
            share["best"] = choose(
                {
                    setting: done[Cell(name, share["fraction"], setting)]
                    for setting in share["settings"]
                }
            )
    first = next(iter(done.values()))[0]
    return {
        "dataset": config.classification.data.dataset,
        "seeds": [config.classification.seed + index for index in range(config.seeds)],
        "test_examples": first.test["examples"],
        "arms": arms,
        "pretexts": {name: _summary(outcomes) for name, outcomes in pretexts.items()},
        "config": json.loads(config.to_json()),
        "environment": json.loads((first.folder / "environment.json").read_text())[-1],
    }


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    tests = [outcome.test["metrics"] for outcome in outcomes]
    names = list(tests[0])
    return {
        "mean": {name: statistics.mean(test[name] for test in tests) for name in names},
        "std": {name: statistics.stdev(test[name] for test in tests) for name in names}
        if len(tests) > 1
        else None,
        "floor": outcomes[0].test["floor"],
        "runs": [
            {"folder": str(outcome.folder), "test": outcome.test["metrics"]} for outcome in outcomes
        ],
        "curves": [_curve(outcome.validation, names) for outcome in outcomes],
    }


def _curve(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    return {
        "epochs": [row["epoch"] for row in rows],
        "validation": {name: [row[name] for row in rows] for name in names},
        "training": {name: [row[f"train_{name}"] for row in rows] for name in names},
    }
