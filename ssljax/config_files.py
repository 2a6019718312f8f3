"""Finds and loads config files: those of a path, and those that come with ssljax."""

from __future__ import annotations

import pathlib
import runpy

from ml_collections import ConfigDict

from ssljax.errors import InputError, nearest


def find(name: str) -> pathlib.Path:
    """The file that `configs/NAME.py` means: that path, or else the one that comes with ssljax.

    Raises:
      InputError: neither is there.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return path
    package = pathlib.Path(__file__).parent
    shipped = package / "configs"  # in an installed package; beside the package in a checkout
    folder = shipped if shipped.is_dir() else package.parent / "configs"
    if path != pathlib.Path("configs", path.name) or not (folder / path.name).is_file():
        known = [f"configs/{file.name}" for file in sorted(folder.glob("[a-z]*.py"))]
        raise InputError(f"--config: no file {name}; {nearest(name, known)}")
    return folder / path.name


def load(spec: str) -> ConfigDict:
    """Runs a config file's `get_config`.

    Args:
      spec: FILE or FILE:ARGUMENT, as `--config` takes it.

    Raises:
      InputError: there is no such file.
    """
    name, colon, argument = spec.partition(":")
    get_config = runpy.run_path(str(find(name)))["get_config"]
    return get_config(argument) if colon else get_config()
