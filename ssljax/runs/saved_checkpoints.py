"""The checkpoints in a run folder, for reading.

    checkpoints/latest/STEP/   params, stats, teacher, memory, optimizer, data, metadata
    checkpoints/best/STEP/     params, stats, teacher, memory, metadata

Parts that a run does not have are not written. `checksums.sha256` lies beside the parts, and what
is read is compared with it first. The run may be training: it removes a checkpoint when newer ones
are complete. A file system may fail for a moment. So what cannot be read is read again. It is
damaged if no newer ones have replaced it and the system reports no fault.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from orbax.checkpoint.path import atomicity

from ssljax.files import storage
from ssljax.models import paths
from ssljax.runs import checkpoint_files, checksums
from ssljax.runs.checkpoint_files import Unreadable
from ssljax.runs.config import FORMAT
from ssljax.settings.errors import InputError

LATEST, BEST = "latest", "best"
KEPT = {LATEST: 2, BEST: 1}  # if the disk damages the latest one, the one before is left
_STEP = re.compile("0|[1-9][0-9]*")
_PAUSES = (0.1, 0.4, 1.5)  # seconds before what could not be read is read again

T = TypeVar("T")


class DamagedCheckpoint(InputError):
    """A file of a checkpoint is missing or damaged."""


class ReplacedCheckpoint(InputError):
    """The run has written newer checkpoints and removed this one."""


class SavedCheckpoints:
    """The complete checkpoints of one run folder."""

    def __init__(self, workdir: str | pathlib.Path):
        """Looks into `workdir/checkpoints`, which need not be there."""
        folder = storage.path(workdir, "--workdir")
        self._folder = (folder if storage.is_remote(folder) else folder.absolute()) / "checkpoints"

    def step(self, kind: str) -> int | None:
        """The step of the newest checkpoint of a kind, or None."""
        return max(self._steps(kind), default=None)

    def read(self, wanted: str, read: Callable[[str, int], T]) -> T:
        """Reads the checkpoint that `wanted` means; the next one if the run replaces it meanwhile.

        Args:
          wanted: see `find`.
          read: is given the kind and the step; see `find` for both.

        Raises:
          InputError: there is none, or it is damaged.
          OSError: the system cannot read it now.
        """
        kind, step = self.find(wanted)
        while True:
            try:
                return read(kind, step)
            except ReplacedCheckpoint:
                before = kind, step
                kind, step = self.find(wanted)
                if (kind, step) == before:
                    raise

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

    def handed_over(self, kind: str) -> str:
        """The checkpoint to use unless another one is named.

        Args:
          kind: what the method hands over. Imported weights are always `best`: without the state
            of an optimiser, they are no `latest` checkpoint to continue from.
        """
        imported = self.step(LATEST) is None and self.step(BEST) is not None
        return BEST if imported else kind

    def metadata(self, kind: str, step: int) -> dict:
        """What was saved to describe the checkpoint.

        Raises:
          InputError: it is of another format, or damaged.
        """
        self._read(kind, step, checksums.verify, "metadata")
        metadata = self._read(kind, step, checkpoint_files.read_json, "metadata")
        if not isinstance(metadata, dict) or "format" not in metadata:
            raise self._damaged(kind, step, "its metadata have no format")
        if metadata["format"] != FORMAT:
            raise InputError(
                f"checkpoint {self._folder / kind / str(step)} has format "
                f"{metadata['format']}, this version of ssljax reads format {FORMAT}"
            )
        if metadata.get("step") != step:
            found = metadata.get("step")
            raise self._damaged(kind, step, f"its metadata are of step {found!r:.50}, not {step}")
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
        names = [name for name, part in like.items() if leaves(part)]
        self._read(kind, step, checksums.verify, *names)
        for name in names:
            self._check_shapes(kind, step, name, like[name])
        return self._read_parts(kind, step, like)

    def restore_as_saved(self, kind: str, step: int, names: tuple[str, ...]) -> dict[str, Any]:
        """Some parts in the shapes they were saved in, on the first device.

        Parts that the checkpoint does not have are {}.

        Raises:
          InputError: they are damaged.
        """
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        self.metadata(kind, step)
        self._read(kind, step, checksums.verify, *names)
        there = [name for name in names if (self._folder / kind / str(step) / name).is_dir()]
        like = {
            name: jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                self._read(kind, step, checkpoint_files.read_shapes, name),
            )
            for name in there
        }
        return {name: {} for name in names} | self._read_parts(kind, step, like)

    def last_good(self) -> str:
        """For messages: the checkpoint that is left."""
        steps = self._steps(LATEST)
        if not steps:
            return "there is no complete checkpoint"
        return f"the last good checkpoint is {self._folder / LATEST / str(max(steps))}"

    def _steps(self, kind: str) -> list[int]:
        """The complete ones, read from the disk without asking other processes."""
        folder = self._folder / kind
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if not storage.is_remote(folder):
                return [int(name) for name in os.listdir(folder) if _STEP.fullmatch(name)]
            return [
                int(path.name)
                for path in folder.iterdir()
                if _STEP.fullmatch(path.name) and (path / atomicity.COMMIT_SUCCESS_FILE).exists()
            ]
        return []

    def _read_parts(self, kind: str, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._read(kind, step, checkpoint_files.read_arrays, name, part)
            if leaves(part)
            else part
            for name, part in like.items()
        }

    def _read(self, kind: str, step: int, read: Callable[..., T], *arguments: Any) -> T:
        """Calls a function of `checkpoint_files` or `checksums`, several times if it fails.

        Raises:
          ReplacedCheckpoint: the run removes the checkpoint, or has done so.
          DamagedCheckpoint: it is there, and cannot be read.
          OSError: the system cannot read it now.
        """
        folder = self._folder / kind / str(step)
        for pause in (*_PAUSES, None):
            try:
                try:
                    return read(folder, *arguments)
                except Unreadable:
                    _check_access(folder)
                    raise
            except (Unreadable, OSError) as error:
                if sum(other > step for other in self._steps(kind)) >= KEPT[kind]:
                    raise ReplacedCheckpoint(
                        f"checkpoint {folder} is gone: the run has replaced it; there is "
                        + self._listing(but=(kind, step))
                    ) from error
                if pause is not None:
                    time.sleep(pause)
                elif isinstance(error, Unreadable):
                    raise self._damaged(kind, step, str(error)) from error
                else:
                    raise OSError(error.errno, error.strerror, str(folder)) from error
        raise AssertionError

    def _damaged(self, kind: str, step: int, fault: str) -> DamagedCheckpoint:
        return DamagedCheckpoint(
            f"checkpoint {self._folder / kind / str(step)} is damaged: {fault}; "
            f"there is also {self._listing(but=(kind, step))}"
        )

    def _listing(self, but: tuple[str, int] | None = None) -> str:
        """For messages: all checkpoints but one."""
        there = [(kind, step) for kind in (BEST, LATEST) for step in sorted(self._steps(kind))]
        return ", ".join(f"{k} (step {step})" for k, step in there if (k, step) != but) or "none"

    def _check_shapes(self, kind: str, step: int, name: str, part: Any) -> None:
        saved = paths.shapes(self._read(kind, step, checkpoint_files.read_shapes, name))
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


def _check_access(folder: pathlib.Path) -> None:
    """Raises the error of a folder in it that may not be listed."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    if not storage.is_remote(folder):
        for _ in os.walk(folder, onerror=refuse):
            pass


def leaves(part: Any) -> bool:
    """Whether a part of a checkpoint has arrays."""
    return bool(jax.tree.leaves(part))
