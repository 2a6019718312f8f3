"""Runs a whole study: `python -m ssljax.study --help`."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.runs.config_flags import ConfigCommand
from ssljax.runs.lock import Busy, lock
from ssljax.settings.command_line import no_arguments
from ssljax.settings.errors import InputError, TrainingFailed
from ssljax.settings.messages import say, show
from ssljax.settings.option_help import Fields

if TYPE_CHECKING:
    from ssljax.studies.outcomes import Failure, Outcome
    from ssljax.studies.plan import Cell, PlannedRun


def study(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    only: Sequence[str] = (),
    seed: int | None = None,
    report_only: bool = False,
) -> dict[str, Any]:
    """Trains every pretext task and every arm, evaluates them, and writes the report.

    Each run has a folder, such as `seed-0/pretext-NAME` or `seed-0/arm-NAME`. Finished runs are not
    repeated, so the same call continues where an interrupted one stopped. Several processes that
    make the same call at the same time share the runs among them.

    Args:
      config: see `ssljax.studies.config.study_config`.
      workdir: the study's folder.
      only: names of pretext tasks and arms: finish these, and the pretext tasks that arms need.
      seed: finish the runs of one seed, from 0. If arms choose from several settings, they do so
        with seed 0, which is then finished first.
      report_only: train nothing, and write the report of the runs that are finished.

    Returns:
      The content of results.json, see `ssljax.studies.results.collect`; {} for a part of a study,
      which has no report.

    Raises:
      InputError: about the config, the data or the folder; if possible before anything is trained.
      TrainingFailed: every run of every arm failed, or any run of a part; otherwise failed runs are
        in the results.
    """
    from ssljax.report import study_files
    from ssljax.studies import finished_runs, floors, outcomes, plan, preflight, results
    from ssljax.studies.checks import check_study_config
    from ssljax.studies.config import complete_study
    from ssljax.studies.sharing import finish

    if report_only and (only or seed is not None):
        raise InputError("--report_only is about the whole study, without --only and --seed")
    config = complete_study(config)
    check_study_config(config)
    for name, arm in list(config.arms.items()):
        if arm.start == "weights_file" and not config.weights_file:
            say(f"arm {name} is left out: no weights_file is given")
            del config.arms[name]
    if not config.arms:
        raise InputError("arms: none is left to train")
    pretext_names, arm_names = plan.part(config, only)
    seeds: Sequence[int] = range(config.seeds)
    if seed is not None:
        if seed not in seeds:
            raise InputError(f"--seed must be >= 0 and < seeds={config.seeds}, got {seed}")
        chooses = len(plan.setting_names(config)) > 1 and arm_names
        seeds = [0, seed] if seed and chooses else [seed]
    remarks = preflight.check(config)

    def end(runs: Mapping[Any, PlannedRun]) -> dict[Any, Outcome | Failure | None]:
        return finished_runs.find(runs) if report_only else {**finish(runs, _finish_run)}

    folder = storage.path(workdir, "--workdir")
    pretexts: dict[str, list[Outcome | Failure | None]] = {name: [] for name in config.pretexts}
    cells: dict[Cell, list[Outcome | Failure | None]] = {}
    missing: list[str] = []
    for index in seeds:
        seed_folder = folder / f"seed-{index}"
        planned = plan.pretext_runs(config, seed_folder, index)
        runs: dict[Any, PlannedRun] = {
            name: run for name, run in planned.items() if name in pretext_names
        }
        for cell in plan.cells(config):
            if cell.arm not in arm_names:
                continue
            if not index or cell.setting in outcomes.repeated(config, cell, cells):
                runs[cell] = plan.arm_run(config, cell, seed_folder, index)
        ended_runs = end(runs)
        ended_runs |= end(floors.moved(config, planned, ended_runs))
        missing += [
            f"{seed_folder.name}/{run.folder.name}"
            for key, run in runs.items()
            if ended_runs[key] is None
        ]
        for key, ended in ended_runs.items():
            (pretexts if key in config.pretexts else cells).setdefault(key, []).append(ended)
    if only or seed is not None:
        parts = (*pretexts.values(), *cells.values())
        failures = [run for part in parts for run in part if isinstance(run, outcomes.Failure)]
        if failures:
            raise TrainingFailed(
                f"{len(failures)} runs failed, the first: {failures[0].folder}: {failures[0].error}"
            )
        return {}
    collected = results.collect(config, pretexts, cells)
    collected |= {"remarks": remarks, "missing": missing}
    try:
        with lock(folder / ".lock", f"another process writes the report of {folder}"):
            confusions = results.confusions(collected, cells)
            study_files.write(config, collected, confusions, folder)
    except Busy as busy:
        say(str(busy))
    return collected


def _finish_run(planned: PlannedRun) -> Outcome:
    """Trains, evaluates and probes a run, as far as that is not done yet."""
    import dataclasses

    from ssljax.probe import probe
    from ssljax.studies import probing

    outcome = _train_and_evaluate(planned.config, planned.folder)
    if planned.probing is None:
        return outcome
    step, seed = outcome.test.step, planned.config.seed
    rows = probing.finish(planned.probing, probe, planned.folder, step, seed)
    return dataclasses.replace(outcome, probes=rows)


def _train_and_evaluate(config: ConfigDict, folder: pathlib.Path) -> Outcome:
    from ssljax.evaluate import evaluate, save
    from ssljax.runs import saved_evaluations
    from ssljax.runs.metrics_log import read_metrics
    from ssljax.runs.saved_checkpoints import SavedCheckpoints
    from ssljax.studies.outcomes import Outcome, checked
    from ssljax.train import train

    method = train(config, folder).method
    _, step = SavedCheckpoints(folder).find(method.hand_over)
    done = saved_evaluations.path(folder, config.data.test_split, step)
    rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
    if done.exists():
        try:
            return checked(Outcome(folder, saved_evaluations.read(done), rows))
        except InputError as error:
            say(f"{error}; it is evaluated again")
    save(evaluate(folder), folder)
    return checked(Outcome(folder, saved_evaluations.read(done), rows))


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Runs the study and says where the report is."""
    no_arguments(positional)
    from ssljax.devices import cpu, distributed
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.config import cpu_devices
    from ssljax.studies import summary
    from ssljax.studies.checks import check_study_config
    from ssljax.studies.config import complete_study
    from ssljax.studies.results import describe_failure

    distributed.refuse("a study")
    config = complete_study(arguments.config)
    check_study_config(config)
    keep_programs()
    cpu.split(*(cpu_devices(run) for run in (config.classification, *config.pretexts.values())))
    only = tuple(filter(None, arguments.only.split(",")))
    seed = None if arguments.seed < 0 else arguments.seed
    collected = study(config, arguments.workdir, only, seed, arguments.report_only)
    if not collected:
        show(
            "",
            "This part of the study is finished. With the folders of all parts in one folder, the",
            "same command without --only and --seed writes the report; --report_only writes the",
            "report of the parts that are finished.",
        )
        return
    show("", *summary.table(collected))
    if collected["arms"]:
        show("", "Next, with the best arm:", f"  {summary.prediction(collected, arguments.plugin)}")
    show("", f"report: {storage.path(arguments.workdir, '--workdir') / 'report.html'}")
    if failures := collected["failures"]:
        raise TrainingFailed(
            f"{len(failures)} runs failed, the first: {describe_failure(failures[0])}"
        )


def _described(config: ConfigDict) -> tuple[ConfigDict, Fields]:
    from ssljax.studies.checks import described

    return described(config)


def cli() -> None:
    """The console script `ssljax-study`."""
    command = ConfigCommand(
        "ssljax-study",
        "Runs a study: pretext tasks, the arms that start from them, their tests and a report.\n"
        "The same command on the same folder continues where it stopped. Started several times at\n"
        "once, for example on several GPUs, the processes share the runs among them.",
        "python -m ssljax.study --config=configs/study.py --workdir=DIR [--config.a.b=value]\n"
        "       [--only=NAME,NAME] [--seed=N] [--report_only]",
    )
    command.config(_described)
    command.text("workdir", "the study's folder", required=True)
    command.text("only", "finish only these pretext tasks and arms, and what they need")
    command.number("seed", "finish only the runs of this seed, from 0", default=-1, at_least=-1)
    command.switch("report_only", "train nothing; write the report of the runs that are finished")
    command.run(main)


if __name__ == "__main__":
    cli()
