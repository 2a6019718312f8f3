"""How a run starts: from new weights, from those of another run, or where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax

from ssljax.devices import processes
from ssljax.files import storage
from ssljax.runs import folder as run_folder
from ssljax.runs import transfer
from ssljax.runs.checkpoints import BEST, LATEST, Checkpoints
from ssljax.runs.lock import lock
from ssljax.runs.run import Run
from ssljax.settings.errors import InputError
from ssljax.training.run_step import RunStep
from ssljax.training.state import TrainState, new_state


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training begins.

    Attributes:
      state: the training state.
      step: steps done.
      next_example: the position of the input pipeline.
      sums: running means, see `ssljax.training.training_log.TrainingLog`.
    """

    state: TrainState
    step: int
    next_example: int
    sums: dict[str, Any]


def start(
    run: Run,
    run_step: RunStep,
    examples: int,
    checkpoints: Checkpoints,
    workdir: pathlib.Path,
    locks: contextlib.ExitStack,
) -> Start:
    """Makes the state: restored from the latest checkpoint, or new, with transferred weights.

    The files of the run are written only after all of that has worked.

    Args:
      run: what is trained.
      run_step: its step.
      examples: training images.
      checkpoints: of the run folder.
      workdir: the run folder.
      locks: keeps other processes out of the folder until it is closed.

    Raises:
      InputError: the folder holds another run, its data set has changed, or there is nothing to
        start from.
    """
    config = run.config
    steps_per_epoch = -(-examples // config.batch_size)
    exists = bool(processes.first_says(workdir.is_dir()))
    if exists:
        _lock(workdir, locks)
    with processes.together():
        latest = checkpoints.step(LATEST)
        if latest is not None:
            _check_continues(run, steps_per_epoch, workdir, latest)
        elif checkpoints.step(BEST) is not None:
            raise InputError(
                f"--workdir: {workdir} holds weights but no state to continue from; name another "
                f"folder, and start from them with --config.init_from={workdir}"
            )
    state = run_step.new_state()
    data, report = {"next_example": 0}, None
    if latest is not None:
        parts, data = checkpoints.restore_latest(state.parts(), config.batch_size)
        state = TrainState.from_parts(parts)
        with processes.together():
            names = checkpoints.class_names(LATEST, int(state.step))
            _check_same_data(run, examples, data.get("examples", examples), names)
    elif config.init_from:
        with processes.together():
            source = transfer.load_source(config)
        params, stats, report = transfer.transfer(
            state.params, state.stats, source, config.init_layers
        )
        state = _with_weights(run, run_step, params, stats)
        processes.say(*transfer.describe(report))
    if not exists:
        _lock(workdir, locks)
        if checkpoints.step(LATEST) != latest:
            raise InputError(f"--workdir: {workdir} was trained by another process")
    with processes.together():
        if processes.is_first():
            run_folder.open_run_folder(workdir, config)
            if report:
                storage.write_json(workdir / "init.json", report)
            elif latest is None:  # of a start that ended before its first checkpoint
                (workdir / "init.json").unlink(missing_ok=True)
    return Start(state, int(state.step), data["next_example"], data)


def _with_weights(run: Run, run_step: RunStep, params: Any, stats: Any) -> TrainState:
    return jax.jit(
        lambda params, stats: new_state(run, run_step.optimizer, params, stats),
        out_shardings=run_step.parallelism.replicated(),
    )(params, stats)


def _check_continues(run: Run, steps_per_epoch: int, workdir: pathlib.Path, latest: int) -> None:
    """Checks that the config can continue from the folder's latest step."""
    config = run.config
    run_folder.check_same_run(workdir, config)
    transfer.check_same_start(workdir, config)
    if latest > config.epochs * steps_per_epoch:
        raise InputError(
            f"epochs: {config.epochs} epochs end at step {config.epochs * steps_per_epoch}, but "
            f"{workdir} is at step {latest} already"
        )
    every, ended = config.validate_every_epochs, run_folder.read_config(workdir).epochs
    if ended != config.epochs and ended % every and latest == ended * steps_per_epoch:
        raise InputError(
            f"epochs: {workdir} ended and was validated after epoch {ended}; a run that is "
            f"validated every {every} epochs cannot continue from there"
        )


def _check_same_data(run: Run, examples: int, before: int, names: tuple[str, ...]) -> None:
    """Checks that the data set has as many training images as before, and the same classes."""
    data = run.config.data
    again = "prepare it as it was, or train in a new folder"
    if examples != before:
        raise InputError(
            f"data.dataset: {data.dataset} has {examples:,} images in {data.train_split}, and had "
            f"{before:,} when the run was saved; {again}"
        )
    if names != run.class_names:
        raise InputError(
            f"data.dataset: {data.dataset} has the classes {list(run.class_names)}, and had "
            f"{list(names)} when the run was saved; {again}"
        )


def _lock(workdir: pathlib.Path, locks: contextlib.ExitStack) -> None:
    """Keeps other runs out of the folder, and checks that all processes see it."""
    with processes.together():
        if processes.is_first():
            message = f"--workdir: another process is training in {workdir}"
            locks.enter_context(lock(workdir / ".lock", message))
    processes.check_shared(workdir)
