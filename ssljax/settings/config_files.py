"""Finds and loads config files: those at a path, and those that come with ssljax."""

from __future__ import annotations

import ast
import os
import pathlib
import runpy

from ml_collections import ConfigDict

from ssljax.settings.errors import InputError, nearest


def find(name: str) -> pathlib.Path:
    """The file that `configs/NAME.py` means: that path, or else the one that comes with ssljax.

    Raises:
      InputError: there is no such file.
    """
    path = pathlib.Path(os.path.expanduser(name))
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"--config: {name} is a folder; a run's own config is {path}/config.json")
    folder = shipped()
    if path != pathlib.Path("configs", path.name) or not (folder / path.name).is_file():
        known = [f"configs/{file.name}" for file in sorted(folder.glob("[a-z]*.py"))]
        raise InputError(f"--config: no file {name}; {nearest(name, known)}")
    return folder / path.name


def summaries() -> dict[str, str]:
    """The config files that come with ssljax, such as `configs/NAME.py`, with their first lines."""
    return {
        f"configs/{file.name}": (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[
            0
        ]
        for file in sorted(shipped().glob("[a-z]*.py"))
    }


def shipped() -> pathlib.Path:
    """The folder of the config files that come with ssljax.

    It is in the package if that is installed, and next to the package in a checkout.
    """
    package = pathlib.Path(__file__).parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def load(spec: str) -> ConfigDict:
    """Runs a config file's `get_config`.

    Args:
      spec: FILE or FILE:ARGUMENT, as `--config` takes it.

    Raises:
      InputError: there is no such file, or it has no `get_config`.
    """
    name, colon, argument = spec.partition(":")
    module = runpy.run_path(str(find(name)))
    if "get_config" not in module:
        raise InputError(f"--config: {name} has no function get_config")
    return module["get_config"](argument) if colon else module["get_config"]()
