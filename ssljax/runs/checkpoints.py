"""Writes the checkpoints of a run: the latest, to continue from, and the best, to be used.

`saved_checkpoints.py` has their layout. The last two of `latest` are kept. All are written
asynchronously, are read back, get checksums, and appear completely or not at all. An older one is
removed only after the newer one is complete.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ssljax.devices import processes
from ssljax.files import storage
from ssljax.runs import checkpoint_data, checkpoint_files, checksums
from ssljax.runs.checkpoint_files import Unreadable
from ssljax.runs.config import FORMAT
from ssljax.runs.saved_checkpoints import (
    BEST,
    KEPT,
    LATEST,
    DamagedCheckpoint,
    SavedCheckpoints,
    leaves,
)
from ssljax.settings.errors import ProcessLost, TrainingFailed, first_line
from ssljax.settings.messages import say

__all__ = ["BEST", "LATEST", "Checkpoints"]

_ARRAYS = ("params", "stats", "teacher", "memory", "optimizer")


class Checkpoints(SavedCheckpoints):
    """The checkpoints of a run folder, and those that are being written."""

    def __init__(self, workdir: str | pathlib.Path):
        """Opens `workdir/checkpoints`, which is created with the first checkpoint."""
        super().__init__(workdir)
        self._managers: dict[str, ocp.CheckpointManager] = {}
        self._literal = contextlib.ExitStack()  # keeps the paths that the managers write to
        self._started: dict[str, int] = {}  # the last step that began to be written

    def step(self, kind: str) -> int | None:
        """The step of the newest checkpoint of a kind, complete or being written, or None."""
        steps = (super().step(kind), self._started.get(kind))
        return max((step for step in steps if step is not None), default=None)

    def save(
        self,
        kind: str,
        step: int,
        parts: Mapping[str, Any],
        metadata: Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts to write a checkpoint.

        Args:
          kind: `latest` or `best`.
          step: of training.
          parts: nested dicts of arrays by name, such as `params`; empty ones are left out.
          metadata: JSON values that describe the checkpoint, beside its format and step.
          data: JSON values, see `ssljax.runs.checkpoint_data`. There is one global position,
            whatever the number of processes.

        Raises:
          TrainingFailed: this or the previous checkpoint cannot be written.
        """
        items: dict[str, Any] = {
            name: checkpoint_files.CheckedSave(jax.tree.map(_one_copy, part))
            for name, part in parts.items()
            if leaves(part)
        }
        items["metadata"] = ocp.args.JsonSave({**metadata, "format": FORMAT, "step": step})
        if data is not None:
            items["data"] = ocp.args.JsonSave(dict(data))
        self._started[kind] = step
        try:
            self._manager(kind).save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._failure(kind, error) from error

    def restore_latest(
        self, like: Mapping[str, Any], batch_size: int
    ) -> tuple[dict[str, Any], dict]:
        """Restores the latest checkpoint, or the one before it if that one is damaged.

        A damaged one is moved to `checkpoints/damaged`.

        Args:
          like: parts with the same shapes, on the devices where the restored ones are to be.
          batch_size: of the run.

        Returns:
          The parts, and data as it was saved.

        Raises:
          InputError: the checkpoint is of another architecture, or all of them are damaged.
          OSError: the system cannot read it now.
        """
        steps = sorted(self._steps(LATEST))
        try:
            restored = self._restore_latest(steps[-1], like, batch_size)
        except DamagedCheckpoint as error:
            if len(steps) < 2:
                raise
            try:
                restored = self._restore_latest(steps[-2], like, batch_size)
            except DamagedCheckpoint as other:
                raise DamagedCheckpoint(f"{error}. So is the one before: {other}") from other
            self._put_aside(steps[-1])
            say(f"{error}; continuing from step {steps[-2]}")
        self._manager(LATEST)  # finds now what would keep the next one from being written
        return restored

    def _restore_latest(
        self, step: int, like: Mapping[str, Any], batch_size: int
    ) -> tuple[dict[str, Any], dict]:
        self.metadata(LATEST, step)
        self._read(LATEST, step, checksums.verify, "data", *like)
        self._check_shapes(LATEST, step, "params", like["params"])
        data = self._read(LATEST, step, checkpoint_files.read_json, "data")
        try:
            checkpoint_data.check(data, step, batch_size)
        except Unreadable as error:
            raise self._damaged(LATEST, step, str(error)) from error
        parts = self._read_parts(LATEST, step, like)
        if (reached := int(parts["optimizer"]["step"])) != step:
            raise self._damaged(LATEST, step, f"its optimizer is at step {reached}, not {step}")
        return parts, data

    def wait(self, *kinds: str) -> None:
        """Waits until everything, or everything of some kinds, is written.

        Raises:
          TrainingFailed: something could not be.
        """
        for kind, manager in self._managers.items():
            if kinds and kind not in kinds:
                continue
            try:
                manager.wait_until_finished()
            except Exception as error:  # orbax passes on whatever its threads met
                raise self._failure(kind, error) from error

    def close(self) -> None:
        """Ends orbax's threads; call `wait` first to learn of errors."""
        for manager in self._managers.values():
            with contextlib.suppress(Exception):
                manager.close()
        self._managers = {}
        self._literal.close()

    def _manager(self, kind: str) -> ocp.CheckpointManager:
        """What writes the checkpoints of a kind."""
        if kind not in self._managers:
            folder = self._folder / kind
            folder.mkdir(parents=True, exist_ok=True)
            # Without a prefix, the threads of the two kinds would share their barriers.
            barriers = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=kind)
            arrays = checkpoint_files.CheckedHandler(multiprocessing_options=barriers)
            values = ocp.JsonCheckpointHandler(multiprocessing_options=barriers)
            handlers = {**dict.fromkeys(_ARRAYS, arrays), "data": values, "metadata": values}
            options = ocp.CheckpointManagerOptions(
                max_to_keep=KEPT[kind],
                cleanup_tmp_directories=True,
                temporary_path_class=checksums.temporary_path_class(folder),
                multiprocessing_options=barriers,
            )
            for step in self._steps(kind):  # orbax opens some of their files
                self._read(kind, step, checksums.check_kinds)
            try:
                self._managers[kind] = ocp.CheckpointManager(
                    self._literal.enter_context(storage.literal(folder)),
                    options=options,
                    item_handlers=handlers,
                )
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise DamagedCheckpoint(
                    f"a checkpoint in {folder} is damaged: {first_line(error)}; "
                    "move it out of there"
                ) from error
        return self._managers[kind]

    def process_lost(self, error: Exception) -> ProcessLost:
        """The error for a process that has ended, from the error that JAX raised about it."""
        return ProcessLost(
            f"another process of the run has ended ({first_line(error)}); {self.last_good()}"
        )

    def _failure(self, kind: str, error: Exception) -> TrainingFailed:
        if processes.lost(error):
            return self.process_lost(error)
        why = re.sub(r"/proc/self/fd/\d+", str(self._folder / kind), first_line(error))
        return TrainingFailed(
            f"cannot write a checkpoint to {self._folder / kind}: {why}; " + self.last_good()
        )

    def _put_aside(self, step: int) -> None:
        """Moves a damaged checkpoint away; the run will write this step again."""
        if processes.is_first():
            damaged = self._folder / LATEST / str(step)
            storage.move_folder(damaged, self._folder / "damaged" / str(step))
        multihost_utils.sync_global_devices("a damaged checkpoint is put aside")


def _one_copy(leaf: Any) -> Any:
    """One of the copies of a replicated array.

    Otherwise orbax saves a slice of each copy, and compiles a program for every shape to get it.
    """
    if isinstance(leaf, jax.Array) and leaf.is_fully_addressable and leaf.is_fully_replicated:
        return leaf.addressable_data(0)
    return leaf
