"""The training loop: one for every method.

What a step computes depends only on the state and the step's number, and the checkpoint of a step
has everything that later steps need. A run that was interrupted ends like one that was not.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ssljax.data import pipeline
from ssljax.data.cache import open_images
from ssljax.data.readers import reader_processes
from ssljax.devices import processes
from ssljax.devices.signals import Interruption
from ssljax.files import storage
from ssljax.probes.in_training import TrainingProbes
from ssljax.runs.best_validation import best_validation
from ssljax.runs.checkpoints import BEST, LATEST, Checkpoints
from ssljax.runs.config import resolve
from ssljax.runs.folder import recorded_config
from ssljax.runs.run import Run, open_run
from ssljax.settings.errors import Diverged, TrainingFailed
from ssljax.training.endings import endings, interrupted
from ssljax.training.memory import check_memory
from ssljax.training.profile import Profile
from ssljax.training.progress import duration, opening, say_concerns
from ssljax.training.run_step import make_run_step
from ssljax.training.start import start
from ssljax.training.training_log import TrainingLog
from ssljax.training.training_records import say_repeated, training_records
from ssljax.training.validation import Evaluator

AfterValidation = Callable[[Run, pathlib.Path, Mapping[str, Any]], None]


def train(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    after_validation: AfterValidation = lambda run, folder, weights: None,
) -> Run:
    """Trains a run, or continues it where an earlier call on the same folder stopped.

    Args:
      config: see `ssljax.runs.config.train_config`.
      workdir: the run folder; it is created if needed.
      after_validation: called after each validation, in every process, with the run, its folder
        and the weights (see `ssljax.training.state.TrainState.weights`).

    Returns:
      The run as it was built; its results are in the folder.

    Raises:
      InputError: something is wrong with the config, the data or the folder.
      Diverged: the loss is not finite.
      TrainingFailed: a checkpoint cannot be written, or another process
        of the run has ended.
      Interrupted: Ctrl-C, SIGTERM or SIGHUP came, to this process or to another; a checkpoint was
        saved.
    """
    # ---------------------------------------------------------------- config, network, data
    folder = storage.path(workdir, "--workdir")
    neighbours = processes.on_this_machine()
    with processes.together():
        run = open_run(resolve(config, recorded_config(folder)))
        config, method = run.config, run.method
        data = config.data
        records = training_records(run)
        validation_records = run.records(data.validation_split)
        steps_per_epoch = -(-len(records) // config.batch_size)
        total_steps = config.epochs * steps_per_epoch
        checkpoints = Checkpoints(folder)
        ended = checkpoints.step(LATEST) == total_steps
        began = time.monotonic()
        if not ended:
            processes.say(*opening(folder.name, run, records, validation_records))
        images, validation_images = open_images(
            "" if ended else data.cache,
            records,
            validation_records,
            **run.image_options(),
            processes=neighbours,
        )
        # ------------------------------------------------------------ devices, steps
        run_step = make_run_step(run, steps_per_epoch)
        check_memory(run, jax.eval_shape(run_step.initial_state))
        parallelism, evaluator = run_step.parallelism, Evaluator(run, validation_images)
        probes = TrainingProbes(run, steps_per_epoch, total_steps)
    in_flight = 1 if parallelism.serial else 2

    with contextlib.ExitStack() as stack:
        stack.callback(reader_processes.end_late)
        interruption = stack.enter_context(Interruption())
        stack.enter_context(endings(folder, checkpoints))
        # ------------------------------------------------------------ state, log, input
        started = start(run, run_step, len(records), checkpoints, folder, stack)
        state, step = started.state, started.step
        log = TrainingLog(folder, config, steps_per_epoch, step, started.sums)
        stack.callback(log.close)
        profile = stack.enter_context(Profile(folder, config.profile_steps))
        signal = processes.SharedSignal(lag=in_flight - 1)
        batches = pipeline.DevicePrefetch(
            pipeline.batches(
                images,
                method.draw,
                batch_size=config.batch_size,
                epochs=config.epochs,
                seed=config.seed,
                train=True,
                random_crop=data.random_crop,
                count_repeated=method.couples_examples,
                threads=data.threads,
                workers=data.workers,
                start_step=started.next_example // config.batch_size,
            ),
            parallelism.put,
        )
        if step < total_steps:
            say_repeated(run, records)
        if step == total_steps:
            processes.say(f"{folder} is trained to step {step} already")
        elif step:
            processes.say(f"{folder.name}  continues after step {step} of {total_steps}")

        def metadata() -> dict[str, Any]:
            return {
                "method": config.method.name,
                "epoch": step / steps_per_epoch,
                "class_names": list(run.class_names),
            }

        def save_latest() -> None:
            position = {
                "next_example": step * config.batch_size, "examples": len(records), **log.to_json(),
            }  # fmt: skip
            if not _all_finite(state.params):
                raise Diverged(f"the parameters after step {step} are not finite")
            checkpoints.wait(BEST)  # of an earlier step, which cannot be computed again
            checkpoints.save(LATEST, step, state.parts(), metadata(), position)

        def best_is_missing() -> bool:
            return _best_step(run, log) == step and checkpoints.step(BEST) != step

        @contextlib.contextmanager
        def save_if_it_cannot_be_written() -> Iterator[None]:
            try:
                yield
            except OSError:
                if jax.process_count() == 1:  # others would not take part
                    with contextlib.suppress(TrainingFailed):
                        save_latest()
                raise

        def stop_if_interrupted() -> None:
            number = signal(interruption.signal_number)
            if number is not None:
                if checkpoints.step(LATEST) != step:
                    save_latest()
                checkpoints.wait()
                raise interrupted(number, step)

        # ------------------------------------------------------------ the loop
        validate_every = config.validate_every_epochs * steps_per_epoch
        compiled = False
        while True:
            # The latest checkpoint is written before probes and validation, so a run that resumes
            # may begin with some that were interrupted.
            if due := probes.due(step, log.probed(step)):
                log.probes(step, probes.metrics(due, state.weights(), stop_if_interrupted))
                log.start_interval(batches)
            validates = step > 0 and (step % validate_every == 0 or step == total_steps)
            if validates and (not log.validated(step) or best_is_missing()):
                metrics = evaluator.metrics(state.weights(), stop_if_interrupted)
                if not log.validated(step):
                    log.validation(step, metrics)
                    say_concerns(folder.name, method, metrics, step / total_steps)
                if best_is_missing():
                    description = {**metadata(), "validation": metrics}
                    checkpoints.save(BEST, step, state.weights(), description)
                after_validation(run, folder, state.weights())
                log.start_interval(batches)
            if step == total_steps:
                break
            batch = next(batches)
            logs = (step + 1) % steps_per_epoch == 0 or (step + 1) % config.log_every_steps == 0
            before = _copy(state.params) if logs else None
            profile.before(step + 1)
            state, sums = run_step.train_step(state, batch)
            step += 1
            profile.after(step, sums)
            log.add(step, sums, in_flight)
            if not compiled:
                log.start_interval(batches)
                compiled = True
                processes.say(
                    f"{folder.name}  first step done after {duration(time.monotonic() - began)}; "
                    f"a line follows every {config.log_every_steps} steps and after each epoch"
                )
            if logs:
                norms = _norms(before, state.params)
                with save_if_it_cannot_be_written():
                    log.interval(step, float(run_step.learning_rate(step - 1)), norms, batches)
            save_every = config.checkpoint_every_steps
            validates = step % validate_every == 0 or step == total_steps
            if validates or probes.due(step) or (save_every and step % save_every == 0):
                save_latest()
            stop_if_interrupted()
        if run.method.best_metric and _best_step(run, log) is None:
            raise Diverged("the loss of every validation is NaN or infinite")
        checkpoints.wait()
    return run


def _best_step(run: Run, log: TrainingLog) -> int | None:
    """The step of the best validation so far; None if there is none, or the method has none."""
    best = best_validation(run.method, log.metrics.validations())
    return None if best is None else best["step"]


@jax.jit
def _copy(params: Any) -> Any:
    return jax.tree.map(jnp.copy, params)


@jax.jit
def _norms(before: Any, after: Any) -> dict[str, jax.Array]:
    """Of the last step's update and of the parameters; inside the step they would cost more."""
    update = jax.tree.map(jnp.subtract, after, before)
    return {"update_norm": optax.tree.norm(update), "parameter_norm": optax.tree.norm(after)}


@jax.jit
def _all_finite(params: Any) -> jax.Array:
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]))
