"""The training loop: one for every task.

What a step does hangs on the state and the step's number alone, and the checkpoint written at a
step holds all that later steps need. So a run that was interrupted anywhere ends like one that
was not.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssljax import storage
from ssljax.data import pipeline
from ssljax.data.pictures import open_pictures
from ssljax.data.subset import label_fraction
from ssljax.errors import InputError, Interrupted, ProcessLost, TrainingFailed
from ssljax.training import initialization, processes, run_folder
from ssljax.training.checkpoints import BEST, LATEST, Checkpoints
from ssljax.training.evaluation import Evaluator
from ssljax.training.interruption import Interruption
from ssljax.training.lock import lock
from ssljax.training.metrics import MetricSums
from ssljax.training.progress import Progress
from ssljax.training.run import Run, make_run, open_class_names
from ssljax.training.run_step import make_run_step
from ssljax.training.steps import TrainState

# It runs once, in milliseconds; optimising its random numbers would take XLA seconds.
_COMPILE_FAST = {"xla_backend_optimization_level": 0}


def train(config: ConfigDict, workdir: str | pathlib.Path) -> Run:
    """Trains, or goes on where an earlier call on the same folder stopped.

    Args:
      config: see `ssljax.config.train_config`.
      workdir: the run folder; created if it is not there.

    Returns:
      The run as it was built; what came out lies in the folder.

    Raises:
      InputError: something about the config, the data or the folder is wrong.
      TrainingFailed: the loss is not finite, a checkpoint cannot be written, or another process
        of the run has ended.
      Interrupted: Ctrl-C or SIGTERM came, to this process or to another; a checkpoint was saved.
    """
    with processes.together():
        run = make_run(config, open_class_names(config))
        loop = _Loop(run, storage.path(workdir, "--workdir"))
    with Interruption() as loop.interruption, contextlib.ExitStack() as locks:
        try:
            loop.start(locks)
            loop.train()
            loop.checkpoints.wait()
        except OSError as error:
            raise TrainingFailed(
                f"cannot write {error.filename or workdir}: {error.strerror}; "
                + loop.checkpoints.last_good()
            ) from error
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if not processes.lost(error):
                raise
            raise loop.checkpoints.process_lost(error) from error
        finally:
            loop.close()
    return run


class _Loop:
    """The state of one call of `train`."""

    interruption: Interruption

    def __init__(self, run: Run, workdir: pathlib.Path):
        config = run.config
        self.run, self.config, self.workdir = run, config, workdir

        # ------------------------------------------------------------------ data
        records = label_fraction(
            run.records(config.data.train_split), config.data.label_fraction, config.seed
        )
        validation = run.records(config.data.validation_split)
        self.steps_per_epoch = -(-len(records) // config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.checkpoints = Checkpoints(workdir)
        finished = self.checkpoints.step(LATEST) == self.total_steps
        self.pictures, validation_pictures = open_pictures(
            "" if finished else config.data.cache,
            records,
            validation,
            size=run.task.image_size,
            decoding=config.data.decoding,
        )

        # ------------------------------------------------------------------ devices and steps
        self.run_step = make_run_step(run, self.steps_per_epoch)
        self.parallelism = self.run_step.parallelism
        self.evaluator = Evaluator(run, validation_pictures)
        self.log: run_folder.MetricsLog | None = None
        self.interval, self.epoch_sums = MetricSums(), MetricSums()
        self.pending: list[tuple[int, Any]] = []  # sums still on the devices, by step
        self.interval_images = 0.0

    # ---------------------------------------------------------------------- start
    def start(self, locks: contextlib.ExitStack) -> None:
        """Sets the state, from the latest checkpoint, other weights, or fresh; then the folder.

        The run's files are written only after all of that has worked.

        Args:
          locks: keeps the folder from other processes until it is closed.
        """
        held = bool(processes.first_says(self.workdir.is_dir()))
        if held:
            self.lock(locks)
        with processes.together():
            started = self.checkpoints.step(LATEST)
            if started is not None:
                self.check_goes_on(started)
            elif self.checkpoints.step(BEST) is not None:
                raise InputError(
                    f"--workdir: {self.workdir} holds weights, but no state to go on from; name "
                    f"another folder, and start from them with --config.init_from={self.workdir}"
                )
        state = jax.jit(
            self.run_step.initial_state,
            out_shardings=self.parallelism.replicated(),
            compiler_options=_COMPILE_FAST if jax.default_backend() == "cpu" else None,
        )()
        first_example, report = 0, None
        if started is not None:
            state, data = self.checkpoints.restore_latest(state)
            first_example = data["next_example"]
            self.interval, self.epoch_sums = (
                MetricSums(data["interval"]),
                MetricSums(data["epoch_sums"]),
            )
        elif self.config.init_from:
            with processes.together():
                source, origin = initialization.load_source(self.config)
            params, report = initialization.carry_over(
                state.params, source, self.config.init_layers
            )
            state = state.replace(params=params)
            report |= {
                "from": origin,
                "fingerprint": initialization.fingerprint(source, self.config.init_layers),
            }
            processes.say(initialization.describe(report))
        if not held:
            self.lock(locks)
            if self.checkpoints.step(LATEST) != started:
                raise InputError(f"--workdir: {self.workdir} was trained by another process")
        with processes.together():
            if processes.is_first():
                run_folder.open_run_folder(self.workdir, self.config)
                if report:
                    run_folder.write_json(self.workdir / "init.json", report)
                elif started is None:  # of a start that never came to a checkpoint
                    (self.workdir / "init.json").unlink(missing_ok=True)
        self.first_step = first_example // self.config.batch_size
        self.state: TrainState = state
        self.step = int(state.step)
        self.log = run_folder.MetricsLog(self.workdir, self.step)
        self.progress = Progress(
            self.workdir.name, self.total_steps, self.config.epochs, self.config.batch_size
        )
        self.shared_signal = processes.SharedSignal(0 if self.parallelism.serial else 1)

    def check_goes_on(self, started: int) -> None:
        """Makes sure that what is configured can go on from the folder's latest step."""
        run_folder.check_same_run(self.workdir, self.config)
        initialization.check_same_start(self.workdir, self.config)
        if started > self.total_steps:
            raise InputError(
                f"epochs: {self.config.epochs} end at step {self.total_steps}, but "
                f"{self.workdir} is at step {started} already"
            )
        every, ended = (
            self.config.validate_every_epochs,
            run_folder.read_config(self.workdir).epochs,
        )
        if (
            ended != self.config.epochs
            and ended % every
            and started == ended * self.steps_per_epoch
        ):
            raise InputError(
                f"epochs: {self.workdir} ended, and was validated, after epoch {ended}; one that "
                f"is validated every {every} epochs cannot go on from there"
            )

    def lock(self, locks: contextlib.ExitStack) -> None:
        """Makes sure that no other run is trained in the folder, and that all processes see it."""
        with processes.together():
            if processes.is_first():
                message = f"--workdir: another process is training in {self.workdir}"
                locks.enter_context(lock(self.workdir / ".lock", message))
        processes.check_shared(self.workdir)

    # ---------------------------------------------------------------------- train
    def train(self) -> None:
        """Runs to the end of the last epoch."""
        # Latest is written before validation; so validation may be what an interruption cut off.
        if self.step and self.validates():
            self.validate()
        if self.step == self.total_steps:
            processes.say(f"{self.workdir} is trained to step {self.step} already")
            return
        batches = pipeline.DevicePrefetch(
            pipeline.batches(
                self.pictures,
                self.run.task,
                batch_size=self.config.batch_size,
                epochs=self.config.epochs,
                seed=self.config.seed,
                train=True,
                random_crop=self.config.data.random_crop,
                threads=self.config.data.threads,
                workers=self.config.data.workers,
                start_step=self.first_step,
            ),
            self.parallelism.put,
        )
        in_flight = 1 if self.parallelism.serial else 2
        compiling = True
        for batch in batches:
            self.state, sums = self.run_step.train_step(self.state, batch)
            self.step += 1
            self.pending.append((self.step, sums))
            # Few steps ahead: enough to keep the devices busy, and an interruption need not wait.
            jax.block_until_ready(self.pending[-in_flight:][0][1])
            if compiling:
                self.collect()
                self.start_interval(batches)
                compiling = False

            epoch_ends = self.step % self.steps_per_epoch == 0
            if epoch_ends or self.step % self.config.log_every_steps == 0:
                self.log_interval(batches)
            every = self.config.checkpoint_every_steps
            if self.validates() or (every and self.step % every == 0):
                self.save_latest()
            self.stop_if_interrupted()
            if self.validates():
                self.validate()
                self.start_interval(batches)

    def start_interval(self, batches: pipeline.DevicePrefetch) -> None:
        """Sets the clocks of the rate and of the waiting for input."""
        self.interval_start = (time.perf_counter(), batches.waited)
        self.interval_images = 0.0

    def collect(self) -> None:
        """Fetches the steps' sums from the devices; stops at a loss that is not finite."""
        for step, sums in self.pending:
            sums = jax.device_get(sums)
            if not np.isfinite(sums["loss"][0]):
                self.fail(f"the loss of step {step} is {sums['loss'][0]}")
            self.interval_images += float(sums["loss"][1])
            self.interval.add(sums)
            self.epoch_sums.add(sums)
        self.pending = []

    def log_interval(self, batches: pipeline.DevicePrefetch) -> None:
        """Writes the means since the last row."""
        self.collect()
        start, waited = self.interval_start
        seconds = max(time.perf_counter() - start, 1e-9)
        # Of an interval that was nothing but the compiling step, there is no rate.
        rate = self.interval_images / seconds
        waiting = (batches.waited - waited) / seconds
        means, self.interval = self.interval.means(), MetricSums()
        epoch = -(-self.step // self.steps_per_epoch)
        assert self.log is not None
        self.log.write(
            "train",
            self.step,
            {
                "epoch": self.step / self.steps_per_epoch,
                "learning_rate": float(self.run_step.learning_rate(self.step - 1)),
                **means,
                "images_per_second": rate,
                "input_wait": waiting,
            },
        )
        self.progress.show(self.step, epoch, means["loss"], rate, waiting)
        self.start_interval(batches)

    # ---------------------------------------------------------------------- checkpoints
    def save_latest(self) -> None:
        """Starts to write a checkpoint from which the run can go on exactly here."""
        self.collect()
        if not _all_finite(self.state.params):
            self.fail(f"the parameters after step {self.step} are not finite")
        self.checkpoints.save_latest(
            self.state,
            data={
                "next_example": self.step * self.config.batch_size,
                "interval": self.interval.to_json(),
                "epoch_sums": self.epoch_sums.to_json(),
            },
            metadata=self.metadata(),
        )

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint says of itself."""
        return {
            "task": self.config.task.name,
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "class_names": list(self.run.class_names),
        }

    def stop_if_interrupted(self) -> None:
        """After a Ctrl-C or SIGTERM: makes sure of a checkpoint at this step and ends the run."""
        number = self.shared_signal(self.interruption.signal_number)
        if number is None:
            return
        if self.checkpoints.step(LATEST) != self.step:
            self.save_latest()
        self.checkpoints.wait()
        ending = Interrupted(
            number,
            f"interrupted; a checkpoint was saved at step {self.step}, and the same command goes "
            "on from there",
        )
        ending.shared = True
        raise ending

    def fail(self, reason: str) -> None:
        """Ends a run whose numbers have gone wrong."""
        self.checkpoints.wait()
        ending = TrainingFailed(
            f"{reason}; {self.checkpoints.last_good()}. Try a lower optimizer.learning_rate"
        )
        ending.shared = True
        raise ending

    # ---------------------------------------------------------------------- validation
    def validates(self) -> bool:
        """Whether there is a validation after this step."""
        every = self.config.validate_every_epochs * self.steps_per_epoch
        return self.step % every == 0 or self.step == self.total_steps

    def validate(self) -> None:
        """Validates, and keeps the parameters if they are the best so far."""
        assert self.log is not None
        epoch_sums, self.epoch_sums = self.epoch_sums, MetricSums()
        rows = [row for row in self.log.rows if row["kind"] == "validation"]
        if any(row["step"] == self.step for row in rows):
            return
        metrics = self.evaluator.metrics(self.state.params, self.stop_if_interrupted)
        task = self.run.task
        sign = 1 if task.best_is_max else -1
        best = max((sign * row[task.best_metric] for row in rows), default=-np.inf)
        if sign * metrics[task.best_metric] > best and self.checkpoints.step(BEST) != self.step:
            self.checkpoints.save_best(self.state, {**self.metadata(), "validation": metrics})
            self.checkpoints.wait()
        epoch = self.step // self.steps_per_epoch
        train = {f"train_{name}": value for name, value in epoch_sums.means().items()}
        self.log.write("validation", self.step, {"epoch": epoch, **metrics, **train})
        self.progress.validated(epoch, metrics)

    def close(self) -> None:
        """Frees what is open; says nothing of faults, for then the run has ended with one."""
        if not isinstance(sys.exception(), ProcessLost):  # it would wait for the others
            self.checkpoints.close()
        if self.log is not None:
            self.log.close()
            self.progress.close()


@jax.jit
def _all_finite(params: Any) -> jax.Array:
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]))
