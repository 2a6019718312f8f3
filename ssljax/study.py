"""Runs a whole study: `python -m ssljax.study --help`."""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from ssljax.command_line import Command
from ssljax.config import check_study_config
from ssljax.errors import InputError


def study(config: ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Trains every pretext task and every arm, tests them, and writes the report.

    Each run has a folder, `seed-0/pretext-NAME` or `seed-0/arm-NAME`. What is finished is not done
    again, so the same call goes on where an interrupted one stopped.

    Args:
      config: see `ssljax.config.study_config`.
      workdir: the study's folder.

    Returns:
      What results.json holds: `arms` and `pretexts` by name, each with `mean` and `std` over the
      seeds of its test metrics, `runs`, `floor` and `curves`.

    Raises:
      InputError: about the config, the data or the folder; before anything is trained where it
        can be known.
    """
    from ssljax.training.run import make_run, open_class_names

    check_study_config(config)
    folder = pathlib.Path(workdir)
    for run in (*config.pretexts.values(), config.classification):
        built = make_run(run, open_class_names(run))
        for split in (run.data.train_split, run.data.validation_split, run.data.test_split):
            built.records(split)
    arms = {
        name: arm
        for name, arm in sorted(config.arms.items(), key=lambda item: item[1].start != "random")
        if arm.start != "weights_file" or config.weights_file
    }
    for name in config.arms:
        if name not in arms:
            print(f"arm {name} is left out: no weights_file is given", file=sys.stderr)

    outcomes: dict[str, list[dict[str, Any]]] = {}
    seeds = [config.classification.seed + index for index in range(config.seeds)]
    for index in range(config.seeds):
        seed_folder = folder / f"seed-{index}"
        for name, pretext in config.pretexts.items():
            run = pretext.copy_and_resolve_references()
            run.seed = pretext.seed + index
            outcomes.setdefault(f"pretext-{name}", []).append(
                _run(run, seed_folder / f"pretext-{name}")
            )
        for name, arm in arms.items():
            run = config.classification.copy_and_resolve_references()
            run.seed = config.classification.seed + index
            run.init_layers = arm.init_layers
            if arm.start == "weights_file":
                run.init_from = config.weights_file
            elif arm.start != "random":
                run.init_from = str(seed_folder / f"pretext-{arm.start}")
            outcomes.setdefault(f"arm-{name}", []).append(_run(run, seed_folder / f"arm-{name}"))
    results = _collect(config, arms, seeds, outcomes, folder)
    _write(results, folder)
    return results


def _run(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
    """Trains and tests one run, as far as that is not done yet."""
    from ssljax.evaluate import evaluate, result_path
    from ssljax.training.checkpoints import Checkpoints
    from ssljax.training.loop import train
    from ssljax.training.run_folder import read_metrics

    print(f"── {folder}", file=sys.stderr)
    task = train(config, folder).task
    _, step = Checkpoints(folder, read_only=True).find(task.hand_over)
    done = result_path(folder, config.data.test_split, step)
    result = json.loads(done.read_text()) if done.exists() else evaluate(folder)
    rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
    names = list(result["metrics"])
    return {
        "folder": str(folder),
        "test": {key: value for key, value in result.items() if key != "confusion"},
        "curve": {
            "epochs": [row["epoch"] for row in rows],
            "validation": {name: [row[name] for row in rows] for name in names},
            "training": {name: [row[f"train_{name}"] for row in rows] for name in names},
        },
    }


def _collect(
    config: ConfigDict,
    arms: dict[str, Any],
    seeds: list[int],
    outcomes: dict[str, list[dict[str, Any]]],
    folder: pathlib.Path,
) -> dict[str, Any]:
    first = folder / "seed-0" / f"arm-{next(iter(arms))}"
    return {
        "dataset": config.classification.data.dataset,
        "seeds": seeds,
        "test_examples": outcomes[f"arm-{next(iter(arms))}"][0]["test"]["examples"],
        "arms": {
            name: {
                "start": arm.start,
                "slides_arm": arm.slides_arm,
                **_summary(outcomes[f"arm-{name}"]),
            }
            for name, arm in arms.items()
        },
        "pretexts": {name: _summary(outcomes[f"pretext-{name}"]) for name in config.pretexts},
        "config": json.loads(config.to_json()),
        "environment": json.loads((first / "environment.json").read_text())[-1],
    }


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    tests = [run["test"]["metrics"] for run in runs]
    return {
        "mean": {name: statistics.mean(test[name] for test in tests) for name in tests[0]},
        "std": {name: statistics.stdev(test[name] for test in tests) for name in tests[0]}
        if len(tests) > 1
        else None,
        "floor": runs[0]["test"]["floor"],
        "runs": [{"folder": run["folder"], "test": tests[i]} for i, run in enumerate(runs)],
        "curves": [run["curve"] for run in runs],
    }


def _write(results: dict[str, Any], folder: pathlib.Path) -> None:
    from ssljax.report import page, pictures, puzzles
    from ssljax.trained_model import load_run
    from ssljax.training.run_folder import write_json, write_text

    write_json(folder / "results.json", results)
    sheets, classified = {}, {}
    for name in results["pretexts"]:
        model = load_run(folder / "seed-0" / f"pretext-{name}")
        if model.run.config.task.name == "jigsaw":
            sheets[name] = puzzles.sheet(model, model.run.config.data.validation_split)
    for name in results["arms"]:
        model = load_run(folder / "seed-0" / f"arm-{name}")
        classified[name] = pictures.classified(model, model.run.config.data.test_split)
    write_text(folder / "report.html", page.render(results, sheets, classified))


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Runs the study and says where the report lies."""
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")
    results = study(arguments.config, arguments.workdir)
    print(f"\n{'arm':20} {'top-1':>7} {'top-3':>7} {'top-5':>7} {'class mean':>11}")
    for name, arm in results["arms"].items():
        top1, top3, top5, class_mean = (
            100 * arm["mean"][key] for key in ("top1", "top3", "top5", "class_mean")
        )
        print(f"{name:20} {top1:7.1f} {top3:7.1f} {top5:7.1f} {class_mean:11.1f}")
    print(f"\nreport: {pathlib.Path(arguments.workdir) / 'report.html'}")


def cli() -> None:
    """The console script `ssljax-study`."""
    command = Command(
        "ssljax-study",
        "Runs a study: pretext tasks, the arms that start from them, their tests and a report.\n"
        "The same command on the same folder goes on where it stopped.",
        "python -m ssljax.study --config=configs/study.py --workdir=DIR [--config.a.b=value]",
    )
    command.config()
    command.text("workdir", "the study's folder", required=True)
    command.run(main)


if __name__ == "__main__":
    cli()
