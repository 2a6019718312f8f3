"""Reads and writes files of PyTorch weights; reading runs no code from the file."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from ssljax.settings.errors import InputError

TORCH_SUFFIXES = (".pth", ".pt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")


def check_suffix(path: pathlib.Path) -> None:
    """Checks that a path ends in a known suffix.

    Raises:
      InputError: it does not.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a file of weights must end in {', '.join(SUFFIXES)}")


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict.

    Raises:
      InputError: the library that writes such files is not installed.
      OSError: the file cannot be written.
    """
    check_suffix(path)
    try:
        if path.suffix in TORCH_SUFFIXES:
            import torch

            copies = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
            with open(path, "wb") as file:  # torch reports files in errors of its own
                torch.save(copies, file)
        else:
            import safetensors.numpy

            path.write_bytes(safetensors.numpy.save(dict(tensors), metadata={"format": "pt"}))
    except ImportError as error:
        raise _not_installed(path, error) from error


def _not_installed(path: pathlib.Path, error: ImportError) -> InputError:
    return InputError(f"{path} needs {error.name}; install it with `pip install -e '.[torch]'`")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a state dict.

    Raises:
      InputError: the file cannot be read, or the library that reads it is not installed.
    """
    check_suffix(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.suffix in TORCH_SUFFIXES:
            import torch

            # weights_only refuses pickles that hold anything but tensors.
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            tensors = {name: tensor.float().numpy() for name, tensor in loaded.items()}
        else:
            import safetensors.numpy

            tensors = safetensors.numpy.load_file(path)
    except ImportError as error:
        raise _not_installed(path, error) from error
    except Exception as error:  # on damaged files both readers raise many kinds of errors
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read as a state dict of tensors: {said}") from error
    return tensors
