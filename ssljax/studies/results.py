"""What a study's runs add up to: which setting each arm chose, means and spreads."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.runs.folder import read_starts
from ssljax.settings.errors import InputError, TrainingFailed
from ssljax.studies import differences
from ssljax.studies.outcomes import Ended, Failure, Outcome, choose, finished
from ssljax.studies.plan import Cell


def collect(
    config: ConfigDict,
    pretexts: Mapping[str, Ended],
    done: Mapping[Cell, Ended],
) -> dict[str, Any]:
    """Everything the report shows, as JSON values.

    Returns:
      `pretexts` by name, each a summary; `arms` by name, each with `labels`: for each share of the
      labels the `settings` by name, each a summary, and the name of the `best` one. A summary has
      `mean` and `std` of the test metrics over the seeds (`std` is None for one seed),
      `standard_error` of the test set (see `ssljax.evaluate`; the mean over the seeds, which share
      the test set), `chance`, `runs` (each with the `seed` of its config), `curves`, and the
      numbers of further runs that `failed` and that are `missing`, because they are not finished.
      What has no finished run is left out. `failures` has an entry for each run that failed.
      `metric` is the one that arms are compared by, and `seeds` are those of arms. `probes` has the
      rows of `ssljax.probe` by pretext task; those with the weights `random` are of random weights
      of the same network. `differences`: see `ssljax.studies.differences.collect`.

    Raises:
      TrainingFailed: no arm has a finished run, and some failed.
      InputError: none is finished or failed.
    """
    failures = _failures(pretexts, done)
    first = next((run for ended in done.values() for run in finished(ended)), None)
    if first is None and not failures:
        raise InputError("no run of an arm is finished, so there is nothing to report")
    if first is None:
        raise TrainingFailed(f"every arm failed, the first: {describe_failure(failures[0])}")
    arms: dict[str, Any] = {}
    for cell, ended in done.items():
        if not finished(ended):
            continue
        description = {
            key: value
            for key, value in config.arms[cell.arm].to_dict().items()
            if key not in ("label_fractions", "settings")
        }
        arm = arms.setdefault(cell.arm, {**description, "labels": {}})
        share = arm["labels"].setdefault(
            f"{cell.fraction:g}", {"fraction": cell.fraction, "settings": {}}
        )
        share["settings"][cell.setting] = _summary(ended, config.classification.seed)
    for name, arm in arms.items():
        for share in arm["labels"].values():
            share["best"] = choose(
                config,
                {
                    setting: done[Cell(name, share["fraction"], setting)]
                    for setting in share["settings"]
                },
            )
    chosen_settings = {
        (name, share["fraction"]): share["best"]
        for name, arm in arms.items()
        for share in arm["labels"].values()
    }
    return {
        "dataset": config.classification.data.dataset,
        "metric": method_class(config.classification.method.name).best_metric,
        "seeds": [config.classification.seed + index for index in range(config.seeds)],
        "test_examples": first.test.examples,
        "class_names": first.test.class_names,
        "arms": arms,
        "pretexts": {
            name: _summary(ended, config.pretexts[name].seed)
            for name, ended in pretexts.items()
            if finished(ended)
        },
        "probes": {
            name: [
                {key: value for key, value in row.items() if key != "hits"}
                for outcome in finished(ended)
                for row in outcome.probes
            ]
            for name, ended in pretexts.items()
            if finished(ended)
        },
        "differences": differences.collect(config, pretexts, done, chosen_settings),
        "failures": failures,
        "published": _published(config),
        "config": json.loads(config.to_json()),
        "environment": next(reversed(read_starts(first.folder)), {}),
    }


def _failures(pretexts: Mapping[str, Ended], done: Mapping[Cell, Ended]) -> list[dict[str, Any]]:
    which: list[tuple[dict[str, Any], Ended]] = [
        *(({"pretext": name}, ended) for name, ended in pretexts.items()),
        *((dataclasses.asdict(cell), ended) for cell, ended in done.items()),
    ]
    return [
        {**names, "run": f"{run.folder.parent.name}/{run.folder.name}", "error": run.error}
        for names, ended in which
        for run in ended
        if isinstance(run, Failure)
    ]


def describe_failure(failure: Mapping[str, Any]) -> str:
    """A failure as one line."""
    return f"{failure['run']}: {failure['error']}"


def _published(config: ConfigDict) -> dict[str, Any]:
    """Published results, if they belong to the study's data set, whatever its version."""
    names = (config.classification.data.dataset, config.published.get("dataset", ""))
    ours, theirs = (name.partition(":")[0] for name in names)
    return config.published.to_dict() if ours == theirs else {}


def _summary(ended: Ended, first_seed: int) -> dict[str, Any]:
    """Of runs whose seeds are the ones from `first_seed` on."""
    outcomes = finished(ended)
    tests = [outcome.test.metrics for outcome in outcomes]
    names = list(tests[0])
    return {
        "mean": {name: statistics.mean(test[name] for test in tests) for name in names},
        "std": {name: statistics.stdev(test[name] for test in tests) for name in names}
        if len(tests) > 1
        else None,
        "standard_error": {
            name: statistics.mean(outcome.test.standard_error[name] for outcome in outcomes)
            for name in names
            if all(name in outcome.test.standard_error for outcome in outcomes)
        },
        "chance": outcomes[0].test.chance,
        "runs": [
            {"folder": str(outcome.folder), "seed": seed, "test": outcome.test.metrics}
            for seed, outcome in enumerate(ended, start=first_seed)
            if isinstance(outcome, Outcome)
        ],
        "failed": sum(isinstance(run, Failure) for run in ended),
        "missing": sum(run is None for run in ended),
        "curves": [_curve(outcome.validation, names) for outcome in outcomes],
    }


def _curve(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    return {
        "epochs": [row["epoch"] for row in rows],
        "validation": {name: [row[name] for row in rows] for name in names},
        # Some metrics are measured only when validating.
        "training": {
            name: [row[f"train_{name}"] for row in rows]
            for name in names
            if all(f"train_{name}" in row for row in rows)
        },
    }


def confusions(results: Mapping[str, Any], done: Mapping[Cell, Ended]) -> dict[str, np.ndarray]:
    """The confusion matrices of the main arms, under the settings that they chose.

    Args:
      results: from `collect`.
      done: as `collect` takes it.

    Returns:
      int[S, K, K] by arm, a matrix for each seed.
    """
    matrices = {}
    for name, arm in main_arms(results).items():
        share = max(arm["labels"].values(), key=lambda share: share["fraction"])
        runs = finished(done[Cell(name, share["fraction"], share["best"])])
        matrices[name] = np.array([run.test.confusion for run in runs])
    return matrices


def error(summary: Mapping[str, Any], metric: str) -> float:
    """The standard error of a mean: of the test set and, if there are several, of the seeds."""
    seeds = summary["std"][metric] ** 2 / len(summary["runs"]) if summary["std"] else 0.0
    return math.sqrt(seeds + summary["standard_error"][metric] ** 2)


def failed_arms(results: Mapping[str, Any]) -> list[str]:
    """The arms with failed runs and without a finished one."""
    failed = {failure.get("arm") for failure in results["failures"]} - set(results["arms"])
    return [name for name in results["config"]["arms"] if name in failed]


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
