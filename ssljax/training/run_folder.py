"""The run folder: what was run, with what, and how it went.

config.json        the resolved config
environment.json   one entry per start: command, git commit, package versions, devices
metrics.jsonl      one row per logging interval and per validation
events.out.…       the same for TensorBoard
checkpoints/       see checkpoints.py
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from ssljax import storage
from ssljax.config import CHANGEABLE, check_train_config, flatten, train_config
from ssljax.errors import InputError
from ssljax.training.processes import is_first

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets",
    "array-record", "numpy", "pillow", "ml-collections",
)  # fmt: skip


def open_run_folder(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Creates the folder and notes what is run, with what.

    Raises:
      InputError: it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", config.to_dict())
        _add_environment(workdir)
    except OSError as error:
        raise InputError(f"--workdir: cannot write {workdir}: {error.strerror}") from error


def read_config(workdir: str | pathlib.Path) -> ConfigDict:
    """The resolved config of a run.

    Raises:
      InputError: the folder holds no run, or a damaged one.
    """
    path = storage.path(workdir, "--workdir") / "config.json"
    try:
        config = _with_defaults(json.loads(path.read_text()), train_config().to_dict())
        check_train_config(config)
        return config
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{workdir} is not a run folder: it has no config.json") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _with_defaults(config: Any, defaults: dict[str, Any]) -> ConfigDict:
    """Adds what a run of an earlier version did not have yet; a task is never missing."""
    missing = {key: value for key, value in defaults.items() if key not in config and key != "task"}
    groups = {
        key: _with_defaults(config[key], value)
        for key, value in defaults.items()
        if isinstance(value, dict) and isinstance(config.get(key), dict) and key != "task"
    }
    return ConfigDict({**config, **missing, **groups})


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file that is there whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file that is there whole or not at all."""
    storage.write(path, text.encode())


def read_metrics(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last row that was cut short is left out.

    Raises:
      InputError: another row is damaged.
    """
    path = storage.path(workdir, "--workdir") / "metrics.jsonl"
    try:
        *lines, cut = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate([*lines, cut] if _is_row(cut) else lines, start=1):
        if not _is_row(line):
            raise InputError(f"{path}, line {number} is damaged; mend or remove it")
        rows.append(json.loads(line))
    return rows


def _is_row(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and "kind" in row and type(row.get("step")) is int


class MetricsLog:
    """Writes metrics.jsonl and TensorBoard events; silent in all processes but the first."""

    def __init__(self, workdir: pathlib.Path, step: int):
        """Goes on at a step: rows of later steps, from before an interruption, are dropped."""
        self._writes = is_first()
        self.rows = [row for row in read_metrics(workdir) if row["step"] <= step]
        if not self._writes:
            return
        from tensorboardX import SummaryWriter

        # In a bucket, nothing can be appended to: it gets copies of what is written to a disk. Not
        # by tensorboardX's own writer, whose faults come up in a thread or a destructor.
        self._bucket = workdir if storage.is_remote(workdir) else None
        self._folder = pathlib.Path(tempfile.mkdtemp()) if self._bucket else workdir
        path = self._folder / "metrics.jsonl"
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, until close()
        self._events = SummaryWriter(str(self._folder), purge_step=step + 1 if step else None)
        self._copy("metrics.jsonl")

    def write(self, kind: str, step: int, row: Mapping[str, Any]) -> None:
        """Adds a row of kind `train` or `validation`."""
        entry = {"kind": kind, "step": step, **row}
        self.rows.append(entry)
        if self._writes:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            self._copy("metrics.jsonl")
            for name, value in row.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)
            if self._bucket is not None and kind == "validation":
                self._events.flush()
                self._copy("events*")

    def _copy(self, pattern: str) -> None:
        if self._bucket is not None:
            for file in self._folder.glob(pattern):
                storage.write(self._bucket / file.name, file.read_bytes())

    def close(self) -> None:
        """Flushes everything."""
        if self._writes:
            self._file.close()
            with contextlib.suppress(OSError):  # events are a copy of the metrics
                self._events.close()
                self._copy("events*")
            if self._bucket is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


def check_same_run(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes sure that the folder's run has the same settings, but for those that may change.

    Raises:
      InputError: it has others, or is of another task.
    """
    before = {key: _plain(value) for key, value in flatten(read_config(workdir))}
    now = {key: _plain(value) for key, value in flatten(config)}
    if before.get("task.name") != now["task.name"]:
        raise InputError(
            f"--workdir: {workdir} holds a run of the task {before.get('task.name')}, "
            f"not {now['task.name']}; name another folder"
        )
    changed = [
        f"{key} {before.get(key, 'unset')} → {now.get(key, 'unset')}"
        for key in sorted(before | now)
        if before.get(key) != now.get(key) and key not in CHANGEABLE
    ]
    if changed:
        raise InputError(
            f"--workdir: {workdir} holds a run with other settings ({'; '.join(changed)}); "
            "name another folder"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _add_environment(workdir: pathlib.Path) -> None:
    path = workdir / "environment.json"
    try:
        starts = json.loads(path.read_text())
    except FileNotFoundError:
        starts = []
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; mend or remove it") from error
    if not isinstance(starts, list):
        raise InputError(f"{path} is damaged: it holds no list; mend or remove it")
    starts.append(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "git_commit": _git_commit(),
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "processes": jax.process_count(),
            "devices": [str(device) for device in jax.devices()],
            "device_kind": jax.devices()[0].device_kind,
        }
    )
    write_json(path, starts)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that this code lies in, `-dirty` with uncommitted changes."""
    here = pathlib.Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # not some other repository around it
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
