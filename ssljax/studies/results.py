"""What a study's runs add up to: which setting each arm chose, means and spreads."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.studies.plan import Cell


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
      folder: of the run.
      test: what `evaluate` returned for the test split.
      validation: the rows of metrics.jsonl, one per validation.
    """

    folder: pathlib.Path
    test: dict[str, Any]
    validation: list[dict[str, Any]]


def choose(config: ConfigDict, outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """The setting with the best validation metric, at its best epoch, with the first seed."""
    method = method_class(config.classification.method.name)
    sign = 1 if method.best_is_max else -1

    def best(name: str) -> float:
        return max(sign * row[method.best_metric] for row in outcomes[name][0].validation)

    return max(outcomes, key=best)


def repeated(config: ConfigDict, cell: Cell, done: Mapping[Cell, Sequence[Outcome]]) -> set[str]:
    """The settings that are run with further seeds: the first one and the chosen one."""
    settings = {
        other.setting: outcomes
        for other, outcomes in done.items()
        if (other.arm, other.fraction) == (cell.arm, cell.fraction)
    }
    return {next(iter(settings)), choose(config, settings)}


def collect(
    config: ConfigDict,
    pretexts: Mapping[str, Sequence[Outcome]],
    done: Mapping[Cell, Sequence[Outcome]],
) -> dict[str, Any]:
    """Everything the report shows, as JSON values.

    Returns:
      `pretexts` by name, each a summary; `arms` by name, each with `labels`: for each share of the
      labels the `settings` by name, each a summary, and the name of the `best` one. A summary has
      `mean` and `std` of the test metrics over the seeds (`std` is None for one seed), `chance`,
      `runs` and `curves`. `metric` is the one that arms are compared by.
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
                config,
                {
                    setting: done[Cell(name, share["fraction"], setting)]
                    for setting in share["settings"]
                },
            )
    first = next(iter(done.values()))[0]
    return {
        "dataset": config.classification.data.dataset,
        "metric": method_class(config.classification.method.name).best_metric,
        "seeds": [config.classification.seed + index for index in range(config.seeds)],
        "test_examples": first.test["examples"],
        "arms": arms,
        "pretexts": {name: _summary(outcomes) for name, outcomes in pretexts.items()},
        "published": config.published.to_dict(),
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
        "chance": outcomes[0].test["chance"],
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


def main_arms(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arms that were trained on the study's largest share of the labels, by name."""
    largest = max(
        share["fraction"] for arm in results["arms"].values() for share in arm["labels"].values()
    )
    return {name: arm for name, arm in results["arms"].items() if f"{largest:g}" in arm["labels"]}


def chosen(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of an arm at its largest share of the labels, under the setting it chose."""
    return best(max(arm["labels"].values(), key=lambda share: share["fraction"]))


def best(share: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of a share of the labels under the setting that was chosen for it."""
    return share["settings"][share["best"]]
