"""The run folder: what was run, and with what.

config.json        the resolved config
environment.json   one entry per start: command, git commit, package versions, devices
init.json          with `init_from`: which parameters were loaded
metrics.jsonl, events.out.…   see metrics_log.py
report.html        see ssljax.report.live_page
checkpoints/       see checkpoints.py
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from ssljax.files import storage, untrusted
from ssljax.runs import config_json
from ssljax.runs.config import changes, check_train_config, complete
from ssljax.settings.errors import InputError

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets",
    "array-record", "numpy", "pillow", "ml-collections",
)  # fmt: skip
_NAMED = 12  # runs in a message


def open_run_folder(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Creates the folder and records what is run, and with what.

    Raises:
      InputError: it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        storage.write_text(workdir / "config.json", config_json.dumps(config) + "\n")
        _add_environment(workdir)
    except OSError as error:
        raise InputError(f"--workdir: cannot write {workdir}: {error.strerror}") from error


def read_config(workdir: str | pathlib.Path) -> ConfigDict:
    """The resolved config of a run.

    Raises:
      InputError: the folder has no run, a damaged one, or one of another format.
    """
    path = storage.path(workdir, "--workdir") / "config.json"
    try:
        values = config_json.read(path)
    except FileNotFoundError as error:
        raise InputError(f"{workdir} is not a run folder: {_what_is_there(path.parent)}") from error
    try:
        config = complete(values)
        check_train_config(config)
        return config
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def _what_is_there(folder: pathlib.Path) -> str:
    """For messages: why a folder is not a run folder, and which runs are in it."""
    if not folder.is_dir():
        return "there is no such folder"
    configs = [*folder.glob("*/config.json"), *folder.glob("*/*/config.json")]
    runs = [str(path.parent) for path in sorted(configs)]
    if len(runs) > _NAMED:
        runs[_NAMED:] = [f"and {len(runs) - _NAMED} more"]
    return "it has no config.json" + (f"; runs inside: {', '.join(runs)}" if runs else "")


def recorded_config(workdir: str | pathlib.Path) -> ConfigDict | None:
    """The config of the run in a folder, or None if there is none.

    Raises:
      InputError: see `read_config`.
    """
    folder = storage.path(workdir, "--workdir")
    return read_config(folder) if (folder / "config.json").exists() else None


def check_same_run(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Checks that the folder's run has the same settings, except for those that may change.

    Raises:
      InputError: it has other settings, or another method.
    """
    before = read_config(workdir)
    if before.method.name != config.method.name:
        raise InputError(
            f"--workdir: {workdir} holds a run of the method {before.method.name}, "
            f"not {config.method.name}; name another folder"
        )
    if changed := changes(before, config):
        raise InputError(
            f"--workdir: {workdir} holds a run with other settings ({'; '.join(changed)}); "
            "name another folder"
        )


def read_starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The entries of environment.json, one for each start.

    Raises:
      FileNotFoundError: there is none.
      InputError: it is damaged.
    """
    path = workdir / "environment.json"
    return untrusted.read_json(path, list[dict[str, Any]], "repair or remove it")


def _add_environment(workdir: pathlib.Path) -> None:
    try:
        starts = read_starts(workdir)
    except FileNotFoundError:
        starts = []
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
    storage.write_json(workdir / "environment.json", starts)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout of this file; `-dirty` with uncommitted changes."""
    here = pathlib.Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # and not of a repository around it
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
