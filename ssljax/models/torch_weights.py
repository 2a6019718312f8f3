"""AlexNet weights to and from torchvision's layout.

torchvision keeps convolution kernels as [out, in, height, width], dense ones as [out, in], and
flattens channels first before fc6; here they are [height, width, in, out], [in, out], and channels
last. Reading a file runs no code from it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssljax.errors import InputError
from ssljax.models.alexnet import POOLED

# Our layer for each of torchvision's modules.
MODULES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
TORCH_SUFFIXES = (".pth", ".pt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")


def load_alexnet(path: str | pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """Reads a file of torchvision's AlexNet weights.

    Returns:
      float32 parameters by layer, as `AlexNet` has them.

    Raises:
      InputError: the file cannot be read, or is not that of an AlexNet.
    """
    return from_state_dict(_read(pathlib.Path(path)), str(path))


def from_state_dict(
    tensors: Mapping[str, np.ndarray], origin: str = "the state dict"
) -> dict[str, dict[str, np.ndarray]]:
    """Converts torchvision's state dict of AlexNet into parameters.

    Raises:
      InputError: with the list of missing, extra and misshaped tensors.
    """
    dimensions = {
        f"{module}.{name}": (4 if layer.startswith("conv") else 2) if name == "weight" else 1
        for layer, module in MODULES.items()
        for name in ("weight", "bias")
    }
    faults = [f"missing {name}" for name in dimensions if name not in tensors]
    faults += [f"extra {name}" for name in tensors if name not in dimensions]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {count} dimensions"
        for name, count in dimensions.items()
        if name in tensors and tensors[name].ndim != count
    ]
    if faults:
        raise InputError(f"{origin} is not torchvision's AlexNet: {'; '.join(faults)}")
    params = {}
    for layer, module in MODULES.items():
        kernel = np.asarray(tensors[f"{module}.weight"], np.float32)
        if layer.startswith("conv"):
            kernel = kernel.transpose(2, 3, 1, 0)
        elif layer == "fc6":
            if kernel.shape[1] % POOLED**2:
                raise InputError(
                    f"{origin} is not torchvision's AlexNet: classifier.1.weight has "
                    f"{kernel.shape[1]} inputs, not a multiple of {POOLED}×{POOLED}"
                )
            kernel = kernel.reshape(len(kernel), -1, POOLED, POOLED).transpose(2, 3, 1, 0)
            kernel = kernel.reshape(-1, kernel.shape[-1])
        else:
            kernel = kernel.T
        bias = np.asarray(tensors[f"{module}.bias"], np.float32)
        params[layer] = {"kernel": np.ascontiguousarray(kernel), "bias": bias}
    return params


def to_state_dict(params: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Converts parameters into torchvision's state dict; the inverse of `from_state_dict`."""
    tensors = {}
    for layer, module in MODULES.items():
        kernel = np.asarray(params[layer]["kernel"], np.float32)
        if layer.startswith("conv"):
            kernel = kernel.transpose(3, 2, 0, 1)
        elif layer == "fc6":
            kernel = kernel.reshape(POOLED, POOLED, -1, kernel.shape[-1]).transpose(3, 2, 0, 1)
            kernel = kernel.reshape(len(kernel), -1)
        else:
            kernel = kernel.T
        tensors[f"{module}.weight"] = np.ascontiguousarray(kernel)
        tensors[f"{module}.bias"] = np.asarray(params[layer]["bias"], np.float32)
    return tensors


def check_suffix(path: pathlib.Path) -> None:
    """Makes sure that a path is that of a known kind of file."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a file of weights ends in {', '.join(SUFFIXES)}")


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict.

    Raises:
      InputError: what writes such files is not installed.
      OSError: the file cannot be written.
    """
    check_suffix(path)
    try:
        if path.suffix in TORCH_SUFFIXES:
            import torch

            copies = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
            with open(path, "wb") as file:  # torch's own errors about files are no OSErrors
                torch.save(copies, file)
        else:
            import safetensors.numpy

            path.write_bytes(safetensors.numpy.save(dict(tensors), metadata={"format": "pt"}))
    except ImportError as error:
        raise _not_installed(path, error) from error


def _not_installed(path: pathlib.Path, error: ImportError) -> InputError:
    return InputError(f"{path} needs {error.name}; install it with `pip install ssljax[torch]`")


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    check_suffix(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.suffix in TORCH_SUFFIXES:
            import torch

            # weights_only refuses every pickle that holds more than tensors.
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            tensors = {name: tensor.float().numpy() for name, tensor in loaded.items()}
        else:
            import safetensors.numpy

            tensors = safetensors.numpy.load_file(path)
    except ImportError as error:
        raise _not_installed(path, error) from error
    except Exception as error:  # on damaged files both readers raise all sorts of errors
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read as a state dict of tensors: {said}") from error
    return tensors
