"""Checkpoints with orbax: the latest, to go on from, and the best, to be used.

    checkpoints/latest/STEP/   params, optimizer, data, metadata
    checkpoints/best/STEP/     params, metadata

Both are written asynchronously and appear whole or not at all; an older one is removed only after
the newer one is complete. This is the one module that knows orbax.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from ssljax.errors import InputError, TrainingFailed
from ssljax.training.steps import TrainState

LATEST, BEST = "latest", "best"


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, workdir: str | pathlib.Path, read_only: bool = False):
        """Opens `workdir/checkpoints`; created with the first checkpoint."""
        self._folder = pathlib.Path(workdir).absolute() / "checkpoints"
        self._read_only = read_only
        self._managers: dict[str, ocp.CheckpointManager] = {}
        # Orbax narrates every file, and where one cannot be written, every task that meets it;
        # what matters of that comes as an exception.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    def step(self, kind: str) -> int | None:
        """The step of the latest or the best checkpoint, or None."""
        if not (self._folder / kind).is_dir():
            return None
        return self._manager(kind).latest_step()

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
        """Restores the latest checkpoint.

        Args:
          state: a state of the same shapes, placed on the devices as the restored one shall be.

        Returns:
          The state, and data as it was saved.

        Raises:
          InputError: the checkpoint is of another architecture, or damaged.
        """
        step = self.step(LATEST)
        assert step is not None
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
        there = {kind: self.step(kind) for kind in (BEST, LATEST)}
        for kind, step in there.items():
            if step is not None and wanted in (kind, str(step)):
                return kind, step
        have = ", ".join(
            f"{kind} (step {step})" for kind, step in there.items() if step is not None
        )
        raise InputError(f"no checkpoint {wanted!r} in {self._folder}; there is {have or 'none'}")

    def metadata(self, kind: str, step: int) -> dict:
        """What was saved beside the parameters."""
        return self._restore(kind, step, metadata=ocp.args.JsonRestore())["metadata"]

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
        # From the disk: a manager counts the checkpoint that it could not finish.
        fresh = Checkpoints(self._folder.parent, read_only=True)
        step = fresh.step(LATEST)
        fresh.close()
        if step is None:
            return "no checkpoint was complete before"
        return f"the last good checkpoint is {self._folder / LATEST / str(step)}"

    def _manager(self, kind: str) -> ocp.CheckpointManager:
        if kind not in self._managers:
            handlers = {
                "params": ocp.StandardCheckpointHandler(),
                "optimizer": ocp.StandardCheckpointHandler(),
                "data": ocp.JsonCheckpointHandler(),
                "metadata": ocp.JsonCheckpointHandler(),
            }
            if kind == BEST:
                handlers = {key: handlers[key] for key in ("params", "metadata")}
            self._managers[kind] = ocp.CheckpointManager(
                self._folder / kind,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=1,
                    read_only=self._read_only,
                    create=not self._read_only,
                    cleanup_tmp_directories=not self._read_only,
                ),
                item_handlers=handlers,
            )
        return self._managers[kind]

    def _save(self, kind: str, step: int, **items: Any) -> None:
        try:
            self._manager(kind).save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._failure(kind, error) from error

    def _failure(self, kind: str, error: Exception) -> TrainingFailed:
        return TrainingFailed(
            f"cannot write a checkpoint to {self._folder / kind}: {_first_line(error)}; "
            + self.last_good()
        )

    def _restore(self, kind: str, step: int, **items: Any) -> Any:
        try:
            return self._manager(kind).restore(step, args=ocp.args.Composite(**items))
        except Exception as error:
            raise InputError(
                f"checkpoint {self._folder / kind / str(step)} is damaged: {_first_line(error)}"
            ) from error

    def _shapes(self, kind: str, step: int) -> Any:
        try:
            return self._manager(kind).item_metadata(step)["params"].tree
        except Exception as error:
            raise InputError(
                f"checkpoint {self._folder / kind / str(step)} is damaged: {_first_line(error)}"
            ) from error

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
