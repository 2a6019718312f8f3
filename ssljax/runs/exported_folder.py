"""The folder that weights are handed over in.

model.safetensors  the state dict; its metadata say how images are prepared, and name the classes
config.json        the run's config, without paths of the machine that trained it
README.md          the model card
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.files.new_folder import new_folder
from ssljax.models.torch import state_dict_files
from ssljax.models.torch.description import Description
from ssljax.runs import config_json, folder
from ssljax.settings.errors import InputError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
# Files that someone may expect to get; a folder of such a name would be a mistake.
_OTHER_FILES = (".bin", ".ckpt", ".h5", ".msgpack", ".npz", ".onnx", ".pkl", ".tar", ".zip")


def check_target(target: str | os.PathLike[str]) -> pathlib.Path:
    """Where weights are exported to: a new file, or a folder that is new or empty.

    Raises:
      InputError: it exists already, is in a bucket, or ends like a file of another kind.
    """
    if storage.is_remote(target):
        raise InputError(f"{target}: weights are exported to a disk; copy them from there")
    path = pathlib.Path(os.path.expanduser(target))
    if state_dict_files.is_named_so(path):
        if path.exists():
            raise InputError(f"{path} exists already; name a new file")
        return path
    if path.suffix in _OTHER_FILES:
        state_dict_files.check_suffix(path)
    if path.is_dir() and not any(path.iterdir()):
        return path.resolve()
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists already; name a new folder, or an empty one")
    return path


def write(
    target: pathlib.Path,
    tensors: Mapping[str, np.ndarray],
    description: Description,
    config: ConfigDict,
    card: str,
) -> None:
    """Writes the folder; it is there whole or not at all.

    Args:
      target: from `check_target`.
      tensors: the state dict.
      description: of the images and the classes.
      config: the run's.
      card: the text of the model card.

    Raises:
      InputError: it cannot be written.
    """
    config = config.copy_and_resolve_references().unlock()
    config.data.data_dir = ""  # of this machine
    config.init_from = pathlib.PurePath(config.init_from).name
    try:
        if target.is_dir():
            target.rmdir()
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    with new_folder(target) as scratch:
        made = scratch / "data"
        state_dict_files.write(made / WEIGHTS, tensors, description.metadata())
        (made / CONFIG).write_text(config_json.dumps(config) + "\n", "utf-8")
        (made / CARD).write_text(card, "utf-8")


def read_config(source: pathlib.Path) -> ConfigDict:
    """The config of the run in such a folder.

    Raises:
      InputError: it is no such folder, or its config is damaged or of another format.
    """
    if lacks := [name for name in (WEIGHTS, CONFIG) if not (source / name).is_file()]:
        raise InputError(
            f"{source} has no {' and no '.join(lacks)}; expected a file of weights, or a folder "
            "that `python -m ssljax.weights export RUN FOLDER` has made"
        )
    return folder.read_config(source)
