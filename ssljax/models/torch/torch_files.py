"""Reads PyTorch's files: runs no code from them, and allocates no more than they can hold."""

from __future__ import annotations

import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

# What training scripts put beside the weights: arguments, and numbers of NumPy. They are read as
# `_Ignored`.
_IGNORED = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_NETWORKS = ("student", "teacher")


class _Ignored:
    """Takes the place of an object; it keeps nothing of it."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Ignored:
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a file as float32, by name.

    They may be within a checkpoint such as {"epoch": 90, "state_dict": …}. If it is one like
    {"student": …, "teacher": …}, names begin with `student.` or `teacher.`.

    Raises:
      ValueError: there are other things among them, or they claim more than the file can hold.
      Exception: of many kinds, on damaged files.
    """
    import torch

    size = os.path.getsize(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as records:
            if sum(record.file_size for record in records.infolist()) > size:
                raise ValueError("it is compressed, which PyTorch's own files are not")
    names = [(_Ignored, name) for name in _IGNORED]
    with torch.serialization.safe_globals(names):
        # weights_only refuses pickles that hold anything but tensors, and what is named above.
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    tensors = _state_dict(loaded)
    for name, tensor in tensors.items():
        _check_dense(name, tensor)
        if (claimed := tensor.untyped_storage().nbytes()) > size:
            raise ValueError(f"{name} claims {claimed:,} bytes, but it has only {size:,}")
    # A tensor may repeat numbers without storing them again.
    if (count := sum(tensor.numel() for tensor in tensors.values())) > size:
        raise ValueError(f"its tensors claim {count:,} numbers, but it has only {size:,} bytes")
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _state_dict(loaded: Any) -> Mapping[Any, Any]:
    """The state dict within a checkpoint."""
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}, not a state dict")
    for key in _WRAPPERS:
        if isinstance(loaded.get(key), Mapping):
            return loaded[key]
    networks = {key: loaded[key] for key in _NETWORKS if isinstance(loaded.get(key), Mapping)}
    if not networks:
        return loaded
    return {
        f"{key}.{name}": tensor
        for key, network in networks.items()
        for name, tensor in network.items()
    }


def _check_dense(name: Any, tensor: Any) -> None:
    import torch

    if not isinstance(name, str):
        raise ValueError(f"its state dict has the key {name!r:.50}, which is not a name")
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} is a {type(tensor).__name__}, not a tensor")
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized or tensor.is_complex():
        raise ValueError(f"{name} is not a dense tensor of real numbers")
