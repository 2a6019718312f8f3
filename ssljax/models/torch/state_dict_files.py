"""Reads and writes files of PyTorch weights; reading runs no code from the file."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ssljax.files.new_file import new_file
from ssljax.settings.errors import InputError, first_line

TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
_LONGEST_NAME = 500  # of a tensor


def is_named_so(path: pathlib.Path) -> bool:
    """Whether a path ends in a known suffix."""
    return path.name.endswith(SUFFIXES)


def is_torch(path: pathlib.Path) -> bool:
    """Whether a path ends in a suffix of PyTorch's own files."""
    return path.name.endswith(TORCH_SUFFIXES)


def check_suffix(path: pathlib.Path) -> None:
    """Checks that a path ends in a known suffix.

    Raises:
      InputError: it does not.
    """
    if not is_named_so(path):
        raise InputError(f"{path}: a file of weights must end in {', '.join(SUFFIXES)}")


def check_file(path: pathlib.Path) -> None:
    """Checks that a path is that of a file; reading a pipe or a device might not end.

    Raises:
      InputError: it is not.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file" if path.exists() else f"{path}: no such file")


def write(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes a state dict; the file is there whole or not at all.

    Args:
      path: of the file.
      tensors: by name.
      metadata: text by name; `.pth` files cannot hold any.

    Raises:
      InputError: the library that writes such files is not installed.
      OSError: the file cannot be written.
    """
    check_suffix(path)
    try:
        with new_file(path) as file:
            if is_torch(path):
                import torch

                copies = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
                torch.save(copies, file)
            else:
                import safetensors.numpy

                file.write(
                    safetensors.numpy.save(dict(tensors), metadata={"format": "pt", **metadata})
                )
    except ImportError as error:
        raise _not_installed(path, error) from error


def _not_installed(path: pathlib.Path, error: ImportError) -> InputError:
    extra = "torch" if is_torch(path) else "safetensors"
    return InputError(f"{path} needs {error.name}; install it with `pip install -e '.[{extra}]'`")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a state dict, also one that is within a checkpoint of PyTorch.

    Names are without the `module.` of DataParallel; see also `ssljax.models.torch.torch_files`.

    Raises:
      InputError: the file cannot be read, or the library that reads it is not installed.
    """
    with _reading(path):
        if is_torch(path):
            from ssljax.models.torch import torch_files

            tensors = torch_files.read(path)
        else:
            import safetensors.numpy

            tensors = safetensors.numpy.load_file(path)
        _check_names(tensors)
        return _without_wrapper(tensors)


def read_metadata(path: pathlib.Path) -> dict[str, str]:
    """The metadata of a `.safetensors` file; {} for a `.pth` file, which has none.

    Raises:
      InputError: see `read`.
    """
    with _reading(path):
        if is_torch(path):
            return {}
        import safetensors

        with safetensors.safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    """Turns whatever the readers raise into errors that name the file."""
    check_suffix(path)
    check_file(path)
    if not path.stat().st_size:
        raise InputError(f"{path} is empty")
    try:
        yield
    except ImportError as error:
        raise _not_installed(path, error) from error
    except Exception as error:  # on damaged files both readers raise many kinds of errors
        said = first_line(error)
        if said.startswith("Weights only load failed"):  # it goes on with unsafe advice
            said = (
                "it holds other objects than tensors, which could run code, or is damaged; "
                "write it with `torch.save(model.state_dict(), FILE)`"
            )
        raise InputError(f"{path} cannot be read as a state dict of tensors: {said}") from error


def _check_names(names: Iterable[str]) -> None:
    """Refuses names that no module has, since messages show them."""
    if odd := [name for name in names if not name.isprintable() or len(name) > _LONGEST_NAME]:
        raise ValueError(f"the name of a tensor is {odd[0]!a:.60}")


def _without_wrapper(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without `module.`, which DataParallel puts before those of the modules within it."""
    names = {name: ".".join(p for p in name.split(".") if p != "module") for name in tensors}
    if len(set(names.values())) < len(names):
        raise ValueError("it has tensors whose names differ only by `module.`")
    return {names[name]: tensor for name, tensor in tensors.items()}
