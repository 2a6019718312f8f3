"""AlexNet weights from and to torchvision's layout.

torchvision stores convolution kernels as [out, in, height, width] and dense ones as [out, in], and
flattens channels first before fc6. Here they are [height, width, in, out], [in, out], and channels
last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ssljax.models import paths
from ssljax.models.alexnet import POOLED
from ssljax.settings.errors import InputError

# torchvision's module for each of our layers.
MODULES = {
    "backbone/conv1": "features.0",
    "backbone/conv2": "features.3",
    "backbone/conv3": "features.6",
    "backbone/conv4": "features.8",
    "backbone/conv5": "features.10",
    "backbone/fc6": "classifier.1",
    "backbone/fc7": "classifier.4",
    "head": "classifier.6",
}


def from_state_dict(
    tensors: Mapping[str, np.ndarray], origin: str = "the state dict"
) -> dict[str, Any]:
    """Converts torchvision's state dict of AlexNet into parameters.

    Args:
      tensors: by torchvision's names.
      origin: for messages.

    Returns:
      float32 parameters as a network of `AlexNet` and a linear `head` has them.

    Raises:
      InputError: with the list of missing, extra and misshaped tensors.
    """
    dimensions = {
        f"{module}.{name}": (4 if _is_convolution(layer) else 2) if name == "weight" else 1
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
    params: dict[str, np.ndarray] = {}
    for layer, module in MODULES.items():
        kernel = np.asarray(tensors[f"{module}.weight"], np.float32)
        if _is_convolution(layer):
            kernel = kernel.transpose(2, 3, 1, 0)
        elif layer == "backbone/fc6":
            if kernel.shape[1] % POOLED**2:
                raise InputError(
                    f"{origin} is not torchvision's AlexNet: classifier.1.weight has "
                    f"{kernel.shape[1]} inputs, not a multiple of {POOLED}×{POOLED}"
                )
            kernel = kernel.reshape(len(kernel), -1, POOLED, POOLED).transpose(2, 3, 1, 0)
            kernel = kernel.reshape(-1, kernel.shape[-1])
        else:
            kernel = kernel.T
        params[f"{layer}/kernel"] = np.ascontiguousarray(kernel)
        params[f"{layer}/bias"] = np.asarray(tensors[f"{module}.bias"], np.float32)
    return paths.unflatten(params)


def check_shapes(params: Mapping[str, Any], expected: Mapping[str, Any], origin: str) -> None:
    """Checks that the layers of converted parameters fit each other.

    Args:
      params: as `from_state_dict` returns them.
      expected: parameters, or their shapes, of an AlexNet.
      origin: for messages.

    Raises:
      InputError: with the list of misshaped layers.
    """
    given, wanted = paths.shapes(params), paths.shapes(expected)
    faults = [
        f"{MODULES[path.rpartition('/')[0]]} has {path.rpartition('/')[2]} {given[path]}, "
        f"expected {wanted[path]}"
        for path in given
        if given[path] != wanted[path]
    ]
    if faults:
        raise InputError(f"{origin} is not torchvision's AlexNet: {'; '.join(faults)}")


def to_state_dict(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts parameters into torchvision's state dict; the inverse of `from_state_dict`."""
    tensors, leaves = {}, paths.flatten(params)
    for layer, module in MODULES.items():
        kernel = np.asarray(leaves[f"{layer}/kernel"], np.float32)
        if _is_convolution(layer):
            kernel = kernel.transpose(3, 2, 0, 1)
        elif layer == "backbone/fc6":
            kernel = kernel.reshape(POOLED, POOLED, -1, kernel.shape[-1]).transpose(3, 2, 0, 1)
            kernel = kernel.reshape(len(kernel), -1)
        else:
            kernel = kernel.T
        tensors[f"{module}.weight"] = np.ascontiguousarray(kernel)
        tensors[f"{module}.bias"] = np.asarray(leaves[f"{layer}/bias"], np.float32)
    return tensors


def _is_convolution(layer: str) -> bool:
    return "/conv" in layer
