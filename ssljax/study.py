"""Runs a whole study: `python -m ssljax.study --help`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict

from ssljax import storage
from ssljax.command_line import Command
from ssljax.config import check_study_config
from ssljax.errors import InputError
from ssljax.training.lock import Busy, lock

if TYPE_CHECKING:
    from ssljax.report.results import Cell, Outcome


_WAIT = 2  # seconds until looking again for a run that another process has in hand


def study(config: ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Trains every pretext task and every arm, tests them, and writes the report.

    Each run has a folder, such as `seed-0/pretext-NAME` or `seed-0/arm-NAME`. What is finished is
    not done again, so the same call goes on where an interrupted one stopped; and several processes
    that make the same call at once share the runs among them.

    Args:
      config: see `ssljax.config.study_config`.
      workdir: the study's folder.

    Returns:
      What results.json holds, see `ssljax.report.results.collect`.

    Raises:
      InputError: about the config, the data or the folder; before anything is trained where it
        can be known.
    """
    from ssljax.report import results

    config = config.copy_and_resolve_references().unlock()
    check_study_config(config)
    for name, arm in list(config.arms.items()):
        if arm.start == "weights_file" and not config.weights_file:
            print(f"arm {name} is left out: no weights_file is given", file=sys.stderr)
            del config.arms[name]
    if not config.arms:
        raise InputError("arms: none is left to train")
    _preflight(config)

    folder = storage.path(workdir, "--workdir")
    pretexts: dict[str, list[Outcome]] = {name: [] for name in config.pretexts}
    cells: dict[results.Cell, list[Outcome]] = {}
    for index in range(config.seeds):
        seed_folder = folder / f"seed-{index}"
        runs: dict[Any, _Run] = {}
        for name, pretext in config.pretexts.items():
            run = pretext.copy_and_resolve_references()
            run.seed += index
            runs[name] = _Run(run, seed_folder / f"pretext-{name}")
        for cell in results.cells(config):
            if not index or cell.setting in results.repeated(cell, cells):
                runs[cell] = _classification(config, cell, seed_folder, index)
        for key, outcome in _finish(runs).items():
            (pretexts if key in config.pretexts else cells).setdefault(key, []).append(outcome)
    collected = results.collect(config, pretexts, cells)
    with contextlib.suppress(Busy), lock(folder / ".lock", "the report is being written"):
        _write(collected, folder)
    return collected


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run of the study; `needed` is the key of the run that has to be finished before."""

    config: ConfigDict
    folder: pathlib.Path
    needed: str = ""


def _finish(runs: dict[Any, _Run]) -> dict[Any, Outcome]:
    """Trains and tests every run; those that another process has in hand are waited for."""
    outcomes: dict[Any, Outcome] = {}
    while len(outcomes) < len(runs):
        before = len(outcomes)
        for key, run in runs.items():
            if key in outcomes or (run.needed in runs and run.needed not in outcomes):
                continue
            claim = run.folder.with_name(f".{run.folder.name}.lock")
            with contextlib.ExitStack() as claims:
                try:
                    claims.enter_context(lock(claim, f"{run.folder} is in other hands"))
                except Busy:
                    continue
                outcomes[key] = _run(run.config, run.folder)
        if len(outcomes) == before:
            time.sleep(_WAIT)
    return {key: outcomes[key] for key in runs}


def _preflight(config: ConfigDict) -> None:
    """Builds every run and opens its data, so that mistakes show before hours are spent."""
    from ssljax.models import torch_weights
    from ssljax.training import initialization
    from ssljax.training.layers import match
    from ssljax.training.run import check_buildable

    shapes = {
        name: check_buildable(run).parameter_shapes() for name, run in config.pretexts.items()
    }
    for pretext in config.pretexts.values():
        initialization.check_apart(pretext, config.classification)
    if any(arm.start == "weights_file" for arm in config.arms.values()):
        shapes["weights_file"] = torch_weights.load_alexnet(config.weights_file)
    params = check_buildable(config.classification).parameter_shapes()
    for name, arm in config.arms.items():
        try:
            match(arm.frozen_layers, params, "frozen_layers")
            if arm.start != "random":
                initialization.choose_layers(params, shapes[arm.start], arm.init_layers)
        except InputError as error:
            raise InputError(f"arms.{name}: {error}") from error


def _classification(config: ConfigDict, cell: Cell, folder: pathlib.Path, index: int) -> _Run:
    """The run of an arm at a share of the labels and a setting."""
    arm = config.arms[cell.arm]
    run = config.classification.copy_and_resolve_references()
    run.seed += index
    run.init_layers, run.frozen_layers = arm.init_layers, arm.frozen_layers
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
        # Decay, validation and warm-up keep their places in a schedule that is stretched.
        for setting, key in ((run.schedule, "every_epochs"), (run, "validate_every_epochs")):
            setting[key] = max(1, round(setting[key] * epochs / run.epochs))
        run.schedule.warmup_epochs = run.schedule.warmup_epochs * epochs / run.epochs
        run.epochs = epochs
    if cell.setting:
        name += f"-{cell.setting}"
        run.optimizer.update(config.settings[cell.setting])
    return _Run(run, folder / name, needed=arm.start)


def _run(config: ConfigDict, folder: pathlib.Path) -> Outcome:
    """Trains and tests one run, as far as that is not done yet."""
    from ssljax.evaluate import evaluate, result_path, save
    from ssljax.report.results import Outcome
    from ssljax.training.checkpoints import Checkpoints
    from ssljax.training.loop import train
    from ssljax.training.run_folder import read_metrics

    print(f"── {folder}", file=sys.stderr)
    task = train(config, folder).task
    checkpoints = Checkpoints(folder, read_only=True)
    _, step = checkpoints.find(task.hand_over)
    checkpoints.close()
    done = result_path(folder, config.data.test_split, step)
    if done.exists():
        test = json.loads(done.read_text())
    else:
        test = evaluate(folder)
        save(test, folder)
    rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
    return Outcome(folder, test, rows)


def _write(collected: dict[str, Any], folder: pathlib.Path) -> None:
    from ssljax.report import page, pictures, puzzles
    from ssljax.trained_model import load_run
    from ssljax.training.run_folder import write_json, write_text

    write_json(folder / "results.json", collected)
    sheets, classified = {}, {}
    for name, pretext in collected["pretexts"].items():
        model = load_run(pretext["runs"][0]["folder"])
        if model.run.config.task.name == "jigsaw":
            sheets[name] = puzzles.sheet(model, model.run.config.data.validation_split)
    for name, arm in collected["arms"].items():
        model = load_run(page.chosen(arm)["runs"][0]["folder"])
        classified[name] = pictures.classified(model, model.run.config.data.test_split)
    write_text(folder / "report.html", page.render(collected, sheets, classified))


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Runs the study and says where the report lies."""
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")
    from ssljax.training import distributed
    from ssljax.training.parallelism import split_cpu

    distributed.refuse("a study")
    config = arguments.config
    check_study_config(config)
    runs = (config.classification, *config.pretexts.values())
    split_cpu(*(run.batch_size // run.gradient_accumulation_steps for run in runs))
    collected = study(config, arguments.workdir)
    longest = max(map(len, collected["arms"]))
    heads = f"{'labels':>7} {'top-1':>7} {'top-3':>7} {'top-5':>7} {'class mean':>11}"
    print(f"\n{'arm':{longest}} {heads}")
    for name, arm in collected["arms"].items():
        for share in arm["labels"].values():
            mean = share["settings"][share["best"]]["mean"]
            values = (100 * mean[key] for key in ("top1", "top3", "top5", "class_mean"))
            print(
                f"{name:{longest}} {share['fraction']:7.0%} "
                + "{:7.1f} {:7.1f} {:7.1f} {:11.1f}".format(*values)
            )
    print(f"\nreport: {storage.path(arguments.workdir, '--workdir') / 'report.html'}")


def cli() -> None:
    """The console script `ssljax-study`."""
    command = Command(
        "ssljax-study",
        "Runs a study: pretext tasks, the arms that start from them, their tests and a report.\n"
        "The same command on the same folder goes on where it stopped; started several times at\n"
        "once, on several GPUs say, the processes share the runs among them.",
        "python -m ssljax.study --config=configs/study.py --workdir=DIR [--config.a.b=value]",
    )
    command.config()
    command.text("workdir", "the study's folder", required=True)
    command.run(main)


if __name__ == "__main__":
    cli()
