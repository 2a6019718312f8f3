"""Checkpoints with orbax: the latest, to continue from, and the best, to be used.

    checkpoints/latest/STEP/   params, stats, teacher, memory, optimizer, data, metadata
    checkpoints/best/STEP/     params, stats, teacher, memory, metadata

Parts that a run does not have are not written. The last two of `latest` are kept. All are written
asynchronously and appear completely or not at all; an older one is removed only after the newer one
is complete. This is the only module that uses orbax.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from ssljax.devices import processes
from ssljax.files import storage
from ssljax.models import paths
from ssljax.runs.config import FORMAT
from ssljax.settings.errors import InputError, ProcessLost, TrainingFailed

LATEST, BEST = "latest", "best"
_KEPT = {LATEST: 2, BEST: 1}  # if the disk damages the latest one, the one before is left
_ARRAYS = ("params", "stats", "teacher", "memory", "optimizer")


class DamagedCheckpoint(InputError):
    """A file of a checkpoint is missing or damaged."""


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, workdir: str | pathlib.Path, read_only: bool = False):
        """Opens `workdir/checkpoints`, which is created with the first checkpoint."""
        folder = storage.path(workdir, "--workdir")
        self._folder = (folder if storage.is_remote(folder) else folder.absolute()) / "checkpoints"
        self._read_only = read_only
        self._managers: dict[str, ocp.CheckpointManager] = {}
        self._started: dict[str, int] = {}  # the last step that began to be written
        # Orbax logs every file, and every task that fails when one cannot be written. What matters
        # is raised as an exception.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    def step(self, kind: str) -> int | None:
        """The step of the newest checkpoint of a kind, complete or being written, or None."""
        steps = self._steps(kind)
        if kind in self._started:
            steps.append(self._started[kind])
        return max(steps, default=None)

    def _steps(self, kind: str) -> list[int]:
        """The complete ones, read from the disk without asking other processes."""
        return list(ocp.utils.checkpoint_steps(self._folder / kind))

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
          metadata: JSON values that describe the checkpoint.
          data: JSON values: the position of the input pipeline (one global position, whatever the
            number of processes) and the running means.

        Raises:
          TrainingFailed: this or the previous checkpoint cannot be written.
        """
        items: dict[str, Any] = {
            name: ocp.args.StandardSave(jax.tree.map(_one_copy, part))
            for name, part in parts.items()
            if _leaves(part)
        }
        items["metadata"] = ocp.args.JsonSave({"format": FORMAT, **metadata})
        if data is not None:
            items["data"] = ocp.args.JsonSave(dict(data))
        self._started[kind] = step
        try:
            self._manager(kind).save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._failure(kind, error) from error

    def restore_latest(self, like: Mapping[str, Any]) -> tuple[dict[str, Any], dict]:
        """Restores the latest checkpoint, or the one before it if that one is damaged.

        A damaged one is moved to `checkpoints/damaged`.

        Args:
          like: parts with the same shapes, on the devices where the restored ones are to be.

        Returns:
          The parts, and data as it was saved.

        Raises:
          InputError: the checkpoint is of another architecture, or all of them are damaged.
        """
        steps = sorted(self._steps(LATEST))
        try:
            return self._restore_latest(steps[-1], like)
        except DamagedCheckpoint as error:
            if len(steps) < 2:
                raise
            try:
                restored = self._restore_latest(steps[-2], like)
            except DamagedCheckpoint as other:
                raise DamagedCheckpoint(f"{error}. So is the one before: {other}") from other
            self._put_aside(steps[-1])
            print(f"{error}; continuing from step {steps[-2]}", file=sys.stderr)
            return restored

    def _restore_latest(self, step: int, like: Mapping[str, Any]) -> tuple[dict[str, Any], dict]:
        self.metadata(LATEST, step)
        self._check_shapes(LATEST, step, "params", like["params"])
        items = self._restore(LATEST, step, like, data=ocp.args.JsonRestore())
        return {name: items[name] if _leaves(part) else part for name, part in like.items()}, items[
            "data"
        ]

    def find(self, wanted: str) -> tuple[str, int]:
        """The kind and the step of the checkpoint that `best`, `latest` or a step's number means.

        Raises:
          InputError: there is none.
        """
        for kind in (BEST, LATEST):
            for step in sorted(self._steps(kind), reverse=True):
                if wanted in (kind, str(step)):
                    return kind, step
        raise InputError(f"no checkpoint {wanted!r} in {self._folder}; there is {self._listing()}")

    def metadata(self, kind: str, step: int) -> dict:
        """What was saved to describe the checkpoint.

        Raises:
          InputError: it is of another format, or damaged.
        """
        metadata = self._restore(kind, step, {}, metadata=ocp.args.JsonRestore())["metadata"]
        if not isinstance(metadata, dict) or "format" not in metadata:
            raise self._damaged(kind, step, "its metadata have no format")
        if metadata["format"] != FORMAT:
            raise InputError(
                f"checkpoint {self._folder / kind / str(step)} has format "
                f"{metadata['format']}, this version of ssljax reads format {FORMAT}"
            )
        return metadata

    def class_names(self, kind: str, step: int) -> tuple[str, ...]:
        """The class names of a checkpoint's data set; none if it has no labels.

        Raises:
          InputError: they were not saved, or cannot be read.
        """
        names = self.metadata(kind, step).get("class_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._damaged(kind, step, "it has no class_names")
        return tuple(names)

    def restore_parts(self, kind: str, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """Some parts of a checkpoint.

        Args:
          kind: `latest` or `best`.
          step: of the checkpoint.
          like: parts with the same shapes, on the devices where the restored ones are to be.

        Raises:
          InputError: they are of another architecture than `like`, or damaged.
        """
        for name, part in like.items():
            if _leaves(part):
                self._check_shapes(kind, step, name, part)
        items = self._restore(kind, step, like)
        return {name: items[name] if _leaves(part) else part for name, part in like.items()}

    def restore_as_saved(self, kind: str, step: int, names: tuple[str, ...]) -> dict[str, Any]:
        """Some parts in the shapes they were saved in, on the first device.

        Parts that the checkpoint does not have are {}.

        Raises:
          InputError: they are damaged.
        """
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        saved = self._saved(kind, step)
        like = {
            name: jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                saved[name].tree if name in saved and saved[name] is not None else {},
            )
            for name in names
        }
        return self.restore_parts(kind, step, like)

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
        """Ends orbax's threads; call `wait` first to learn of errors."""
        for manager in self._managers.values():
            with contextlib.suppress(Exception):
                manager.close()
        self._managers = {}

    def last_good(self) -> str:
        """For messages: the checkpoint that is left."""
        steps = self._steps(LATEST)
        if not steps:
            return "there is no complete checkpoint"
        return f"the last good checkpoint is {self._folder / LATEST / str(max(steps))}"

    def _manager(self, kind: str) -> ocp.CheckpointManager:
        if kind not in self._managers:
            # Without a prefix, the threads of the two kinds would share their barriers.
            readers = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=kind)
            if self._read_only and jax.process_count() > 1:  # processes read independently
                own = jax.process_index()
                readers = ocp.options.MultiprocessingOptions(own, {own}, f"process-{own}")
            arrays = ocp.StandardCheckpointHandler(multiprocessing_options=readers)
            values = ocp.JsonCheckpointHandler(multiprocessing_options=readers)
            handlers = {**dict.fromkeys(_ARRAYS, arrays), "data": values, "metadata": values}
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

    def process_lost(self, error: Exception) -> ProcessLost:
        """The error for a process that has ended, from the error that JAX raised about it."""
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

    def _restore(self, kind: str, step: int, like: Mapping[str, Any], **items: Any) -> Any:
        arguments = {
            name: ocp.args.StandardRestore(_abstract(part))
            for name, part in like.items()
            if _leaves(part)
        }
        if not arguments and not items:
            return {}
        manager = self._manager(kind)
        try:
            return manager.restore(step, args=ocp.args.Composite(**arguments, **items))
        except (MemoryError, PermissionError):
            raise  # these say nothing about the checkpoint
        except Exception as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            raise self._damaged(kind, step, _first_line(error)) from error

    def _damaged(self, kind: str, step: int, fault: str) -> DamagedCheckpoint:
        return DamagedCheckpoint(
            f"checkpoint {self._folder / kind / str(step)} is damaged: {fault}; "
            f"there is also {self._listing(but=(kind, step))}"
        )

    def _listing(self, but: tuple[str, int] | None = None) -> str:
        """For messages: all checkpoints but one."""
        there = [(kind, step) for kind in (BEST, LATEST) for step in self._steps(kind)]
        return ", ".join(f"{k} (step {step})" for k, step in there if (k, step) != but) or "none"

    def _put_aside(self, step: int) -> None:
        """Moves a damaged checkpoint away; the run will write this step again."""
        self._manager(LATEST).close()
        del self._managers[LATEST]
        if processes.is_first():
            damaged = self._folder / LATEST / str(step)
            storage.move_folder(damaged, self._folder / "damaged" / str(step))
        multihost_utils.sync_global_devices("a damaged checkpoint is put aside")

    def _saved(self, kind: str, step: int) -> Any:
        manager = self._manager(kind)
        try:
            return manager.item_metadata(step)
        except Exception as error:
            raise self._damaged(kind, step, _first_line(error)) from error

    def _check_shapes(self, kind: str, step: int, name: str, part: Any) -> None:
        try:
            saved = paths.shapes(self._saved(kind, step)[name].tree)
        except (AttributeError, KeyError, TypeError) as error:
            raise self._damaged(kind, step, f"it has no {name}") from error
        wanted = paths.shapes(part)
        if saved == wanted:
            return
        different = [
            f"{path} {saved.get(path, 'missing')} instead of {wanted.get(path, 'none')}"
            for path in sorted(saved | wanted)
            if saved.get(path) != wanted.get(path)
        ]
        if len(different) > 3:
            different[3:] = [f"and {len(different) - 3} more"]
        raise InputError(
            f"checkpoint {self._folder / kind / str(step)} is of another architecture: "
            + "; ".join(different)
        )


def _one_copy(leaf: Any) -> Any:
    """One of the copies of a replicated array.

    Otherwise orbax saves a slice of each copy, and compiles a program for every shape to get it.
    """
    if isinstance(leaf, jax.Array) and leaf.is_fully_addressable and leaf.is_fully_replicated:
        return leaf.addressable_data(0)
    return leaf


def _leaves(part: Any) -> bool:
    return bool(jax.tree.leaves(part))


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
