"""Checkpoints with orbax: the latest, to go on from, and the best, to be used.

    checkpoints/latest/STEP/   params, optimizer, data, metadata; the last two are kept
    checkpoints/best/STEP/     params, metadata

All are written asynchronously and appear whole or not at all; an older one is removed only after
the newer one is complete. This is the one module that knows orbax.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import sys
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ssljax import storage
from ssljax.errors import InputError, ProcessLost, TrainingFailed
from ssljax.training import processes
from ssljax.training.steps import TrainState

LATEST, BEST = "latest", "best"
_KEPT = {LATEST: 2, BEST: 1}  # of two latest ones, one is left if the disk damages the other


class DamagedCheckpoint(InputError):
    """A checkpoint has a missing or broken file."""


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, workdir: str | pathlib.Path, read_only: bool = False):
        """Opens `workdir/checkpoints`; created with the first checkpoint."""
        folder = storage.path(workdir, "--workdir")
        self._folder = (folder if storage.is_remote(folder) else folder.absolute()) / "checkpoints"
        self._read_only = read_only
        self._managers: dict[str, ocp.CheckpointManager] = {}
        self._started: dict[str, int] = {}  # the last step that began to be written
        # Orbax narrates every file, and where one cannot be written, every task that meets it;
        # what matters of that comes as an exception.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    def step(self, kind: str) -> int | None:
        """The step of the latest or the best checkpoint, complete or being written, or None."""
        steps = self._steps(kind)
        if kind in self._started:
            steps.append(self._started[kind])
        return max(steps, default=None)

    def _steps(self, kind: str) -> list[int]:
        """The complete ones, read from the disk; no other process is asked."""
        return list(ocp.utils.checkpoint_steps(self._folder / kind))

    def save_latest(self, state: TrainState, data: dict, metadata: dict) -> None:
        """Starts to write everything that a run needs to go on.

        Args:
          data: JSON values: where the input pipeline stands (one global place, whatever the
            number of processes) and the running means.
          metadata: JSON values.

        Raises:
          TrainingFailed: this or the previous checkpoint cannot be written.
        """
        self._save(
            LATEST,
            int(state.step),
            params=ocp.args.StandardSave(state.params),
            optimizer=ocp.args.StandardSave({"step": state.step, "state": state.opt_state}),
            data=ocp.args.JsonSave(data),
            metadata=ocp.args.JsonSave(metadata),
        )

    def save_best(self, state: TrainState, metadata: dict) -> None:
        """Starts to write the parameters as the best so far."""
        self._save(
            BEST,
            int(state.step),
            params=ocp.args.StandardSave(state.params),
            metadata=ocp.args.JsonSave(metadata),
        )

    def restore_latest(self, state: TrainState) -> tuple[TrainState, dict]:
        """Restores the latest checkpoint, or the one before it if that is damaged.

        A damaged one is kept in `checkpoints/damaged`.

        Args:
          state: a state of the same shapes, placed on the devices as the restored one shall be.

        Returns:
          The state, and data as it was saved.

        Raises:
          InputError: the checkpoint is of another architecture, or all there are are damaged.
        """
        steps = sorted(self._steps(LATEST))
        try:
            return self._restore_latest(steps[-1], state)
        except DamagedCheckpoint as error:
            if len(steps) < 2:
                raise
            try:
                restored = self._restore_latest(steps[-2], state)
            except DamagedCheckpoint as other:
                raise DamagedCheckpoint(f"{error}. That one, too: {other}") from other
            self._put_aside(steps[-1])
            print(f"{error}; going on from step {steps[-2]}", file=sys.stderr)
            return restored

    def _restore_latest(self, step: int, state: TrainState) -> tuple[TrainState, dict]:
        self._check_shapes(LATEST, step, state.params)
        optimizer = {"step": state.step, "state": state.opt_state}
        items = self._restore(
            LATEST,
            step,
            params=ocp.args.StandardRestore(_abstract(state.params)),
            optimizer=ocp.args.StandardRestore(_abstract(optimizer)),
            data=ocp.args.JsonRestore(),
        )
        restored = TrainState(
            items["optimizer"]["step"], items["params"], items["optimizer"]["state"]
        )
        return restored, items["data"]

    def find(self, wanted: str) -> tuple[str, int]:
        """Which checkpoint `best`, `latest` or a step's number means.

        Raises:
          InputError: there is none.
        """
        for kind in (BEST, LATEST):
            for step in sorted(self._steps(kind), reverse=True):
                if wanted in (kind, str(step)):
                    return kind, step
        raise InputError(f"no checkpoint {wanted!r} in {self._folder}; there is {self._listing()}")

    def metadata(self, kind: str, step: int) -> dict:
        """What was saved beside the parameters."""
        return self._restore(kind, step, metadata=ocp.args.JsonRestore())["metadata"]

    def class_names(self, kind: str, step: int) -> tuple[str, ...]:
        """The class names of a checkpoint's data set; none if it has no labels.

        Raises:
          InputError: they were not saved, or cannot be read.
        """
        metadata = self.metadata(kind, step)
        names = metadata.get("class_names") if isinstance(metadata, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._damaged(kind, step, "it has no class_names")
        return tuple(names)

    def restore_params(self, kind: str, step: int, like: Any = None) -> Any:
        """Parameters alone; without `like`, in the shapes they were saved in, on the first device.

        Raises:
          InputError: they are of another architecture than `like`, or damaged.
        """
        if like is None:
            sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            like = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                self._shapes(kind, step),
            )
        else:
            self._check_shapes(kind, step, like)
        items = self._restore(kind, step, params=ocp.args.StandardRestore(_abstract(like)))
        return items["params"]

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
          TrainingFailed: something could not be.
        """
        for kind, manager in self._managers.items():
            try:
                manager.wait_until_finished()
            except Exception as error:  # orbax passes on whatever its threads met
                raise self._failure(kind, error) from error

    def close(self) -> None:
        """Frees orbax's threads; `wait` before it tells of faults."""
        for manager in self._managers.values():
            with contextlib.suppress(Exception):
                manager.close()
        self._managers = {}

    def last_good(self) -> str:
        """For messages: the checkpoint to fall back on."""
        steps = self._steps(LATEST)
        if not steps:
            return "no checkpoint was complete before"
        return f"the last good checkpoint is {self._folder / LATEST / str(max(steps))}"

    def _manager(self, kind: str) -> ocp.CheckpointManager:
        if kind not in self._managers:
            # Without a prefix, the two kinds' threads meet at each other's barriers.
            readers = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=kind)
            if self._read_only and jax.process_count() > 1:  # one reads whenever it wants to
                own = jax.process_index()
                readers = ocp.options.MultiprocessingOptions(own, {own}, f"process-{own}")
            arrays = ocp.StandardCheckpointHandler(multiprocessing_options=readers)
            values = ocp.JsonCheckpointHandler(multiprocessing_options=readers)
            handlers = {"params": arrays, "optimizer": arrays, "data": values, "metadata": values}
            if kind == BEST:
                handlers = {key: handlers[key] for key in ("params", "metadata")}
            options = ocp.CheckpointManagerOptions(
                max_to_keep=_KEPT[kind],
                read_only=self._read_only,
                create=not self._read_only,
                cleanup_tmp_directories=not self._read_only,
                multiprocessing_options=readers,
            )
            try:
                self._managers[kind] = ocp.CheckpointManager(
                    self._folder / kind, options=options, item_handlers=handlers
                )
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise DamagedCheckpoint(
                    f"a checkpoint in {self._folder / kind} is damaged: {_first_line(error)}; "
                    "move it out of there"
                ) from error
        return self._managers[kind]

    def _save(self, kind: str, step: int, **items: Any) -> None:
        self._started[kind] = step
        try:
            self._manager(kind).save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._failure(kind, error) from error

    def process_lost(self, error: Exception) -> ProcessLost:
        """What an error of JAX means that came because another process is gone."""
        return ProcessLost(
            f"another process of the run has ended ({_first_line(error)}); {self.last_good()}"
        )

    def _failure(self, kind: str, error: Exception) -> TrainingFailed:
        if processes.lost(error):
            return self.process_lost(error)
        return TrainingFailed(
            f"cannot write a checkpoint to {self._folder / kind}: {_first_line(error)}; "
            + self.last_good()
        )

    def _restore(self, kind: str, step: int, **items: Any) -> Any:
        manager = self._manager(kind)
        try:
            return manager.restore(step, args=ocp.args.Composite(**items))
        except (MemoryError, PermissionError):
            raise  # which say nothing about the checkpoint
        except Exception as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            raise self._damaged(kind, step, _first_line(error)) from error

    def _damaged(self, kind: str, step: int, fault: str) -> DamagedCheckpoint:
        return DamagedCheckpoint(
            f"checkpoint {self._folder / kind / str(step)} is damaged: {fault}; "
            f"beside it there is {self._listing(but=(kind, step))}"
        )

    def _listing(self, but: tuple[str, int] | None = None) -> str:
        """For messages: all checkpoints but one."""
        there = [(kind, step) for kind in (BEST, LATEST) for step in self._steps(kind)]
        return ", ".join(f"{k} (step {step})" for k, step in there if (k, step) != but) or "none"

    def _put_aside(self, step: int) -> None:
        """Makes room for the checkpoint that the run will write again at this step."""
        self._manager(LATEST).close()
        del self._managers[LATEST]
        if processes.is_first():
            damaged = self._folder / LATEST / str(step)
            storage.move_folder(damaged, self._folder / "damaged" / str(step))
        multihost_utils.sync_global_devices("a damaged checkpoint is put aside")

    def _shapes(self, kind: str, step: int) -> Any:
        manager = self._manager(kind)
        try:
            return manager.item_metadata(step)["params"].tree
        except Exception as error:
            raise self._damaged(kind, step, _first_line(error)) from error

    def _check_shapes(self, kind: str, step: int, params: Any) -> None:
        saved, wanted = flat_shapes(self._shapes(kind, step)), flat_shapes(params)
        if saved == wanted:
            return
        different = [
            f"{name} {saved.get(name, 'missing')} instead of {wanted.get(name, 'none')}"
            for name in sorted(saved | wanted)
            if saved.get(name) != wanted.get(name)
        ]
        if len(different) > 3:
            different[3:] = [f"and {len(different) - 3} more"]
        raise InputError(
            f"checkpoint {self._folder / kind / str(step)} is of another architecture: "
            + "; ".join(different)
        )


def flat_shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by parameter name, such as `conv1/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
