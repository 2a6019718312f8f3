"""Parameters and batch statistics from and to PyTorch's state dicts.

PyTorch stores convolution kernels as [out, in, height, width] and dense ones as [out, in]. Here
they are [height, width, in, out] and [in, out]. Where PyTorch flattens a map, it does so channels
first, here channels last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ssljax.models import paths
from ssljax.settings.errors import InputError

HEAD = "head"  # the part that is PyTorch's last layer, if it is linear
# Names of tensors that PyTorch's network has no place for: `ssljax/params/PART/…`.
OTHERS = "ssljax/"
_LISTED = 20  # faults in a message


class Leaf(NamedTuple):
    """An array of a layer: ours, PyTorch's name for it, and its number of dimensions."""

    collection: str
    name: str
    torch_name: str
    dimensions: int


CONVOLUTION = (Leaf("params", "kernel", "weight", 4),)
BIASED_CONVOLUTION = (*CONVOLUTION, Leaf("params", "bias", "bias", 1))
DENSE = (Leaf("params", "kernel", "weight", 2), Leaf("params", "bias", "bias", 1))
NORM = (
    Leaf("params", "scale", "weight", 1),
    Leaf("params", "bias", "bias", 1),
    Leaf("stats", "mean", "running_mean", 1),
    Leaf("stats", "var", "running_var", 1),
)
LAYER_NORM = (Leaf("params", "scale", "weight", 1), Leaf("params", "bias", "bias", 1))
_COUNT = "num_batches_tracked"  # of batch normalisation; only a momentum of None would need it


class Layer(NamedTuple):
    """A layer, or several equal ones that are stacked here.

    Attributes:
      path: ours.
      module: PyTorch's module for it; empty for parameters of the whole network. The number of a
        stacked layer takes the place of `{}`.
      leaves: its arrays.
      side: of the map that it flattens.
      stacked: the number of stacked layers; 0: it is a single one.
    """

    path: str
    module: str
    leaves: tuple[Leaf, ...]
    side: int = 1
    stacked: int = 0

    def names(self, leaf: Leaf) -> list[str]:
        """PyTorch's names for an array; one for each stacked layer."""
        modules = [self.module]
        if self.stacked:
            modules = [self.module.format(number) for number in range(self.stacked)]
        return [f"{each}.{leaf.torch_name}".removeprefix(".") for each in modules]


class Weights(NamedTuple):
    """Parameters and batch statistics, float32, as nested dicts by part."""

    params: dict[str, Any]
    stats: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where PyTorch has the weights of a backbone, and of a linear head on it.

    Attributes:
      title: for people.
      layers: of the backbone.
      head: PyTorch's name for the last layer.
      constants: tensors that PyTorch has among its parameters, and that are fixed here.
    """

    title: str
    layers: tuple[Layer, ...]
    head: str
    constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def names(self) -> set[str]:
        """The names of the backbone's tensors, without counts of batches."""
        return {*self.constants}.union(
            *(each.names(leaf) for each in self.layers for leaf in each.leaves)
        )

    def read(self, tensors: Mapping[str, np.ndarray], origin: str = "the state dict") -> Weights:
        """Converts a state dict.

        The head may be missing as a whole. Tensors that `write` has written for other parts of a
        network are read, too.

        Args:
          tensors: by PyTorch's names.
          origin: for messages.

        Raises:
          InputError: with the list of missing, extra and misshaped tensors.
        """
        layers = list(self.layers)
        if any(name.startswith(f"{self.head}.") for name in tensors):
            layers.append(Layer(HEAD, self.head, DENSE))
        arrays = {
            name: (layer, leaf)
            for layer in layers
            for leaf in layer.leaves
            for name in layer.names(leaf)
        }
        known = {
            *arrays,
            *self.constants,
            *(f"{layer.module}.{_COUNT}" for layer in layers if layer.leaves == NORM),
        }
        wanted = [*arrays, *self.constants]
        faults = [f"missing {name}" for name in wanted if name not in tensors]
        faults += [
            f"extra {name}" for name in tensors if name not in known and not name.startswith(OTHERS)
        ]
        faults += [
            f"{name} has shape {tuple(tensors[name].shape)}, expected {leaf.dimensions} dimensions"
            for name, (_, leaf) in arrays.items()
            if name in tensors and tensors[name].ndim != leaf.dimensions
        ]
        self._refuse(faults, origin)
        found: dict[str, dict[str, np.ndarray]] = {"params": {}, "stats": {}}
        stacks: dict[tuple[str, str], list[np.ndarray]] = {}
        for name, (layer, leaf) in arrays.items():
            values = np.asarray(tensors[name], np.float32)
            if leaf.name == "kernel":
                if values.shape[1] % layer.side**2:
                    said = f"{name} has {values.shape[1]} inputs, not a multiple of {layer.side}²"
                    self._refuse([said], origin)
                values = _from_torch(values, layer.side)
            path = f"{layer.path}/{leaf.name}"
            if not layer.stacked:
                found[leaf.collection][path] = values
                continue
            stack = stacks.setdefault((leaf.collection, path), [])
            stack.append(values)
            if values.shape != stack[0].shape:
                first = layer.names(leaf)[0]
                self._refuse([f"{name} has another shape than {first}"], origin)
        for (collection, path), stack in stacks.items():
            found[collection][path] = np.stack(stack)
        for name, values in tensors.items():
            if name.startswith(OTHERS):
                collection, _, path = name.removeprefix(OTHERS).partition("/")
                if collection not in found or path.count("/") < 1 or not all(path.split("/")):
                    self._refuse([f"extra {name}"], origin)
                found[collection][path] = np.asarray(values, np.float32)
        try:
            return Weights(*(paths.unflatten(found[name]) for name in ("params", "stats")))
        except (TypeError, AttributeError):  # a layer within an array
            self._refuse([f"names with {OTHERS} that contradict each other"], origin)
            raise

    def write(
        self, params: Mapping[str, Any], stats: Mapping[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Converts parameters and batch statistics into a state dict; the inverse of `read`.

        A linear head gets PyTorch's name for it. Other parts of the network get names that begin
        with `ssljax/`.
        """
        leaves = {"params": paths.flatten(params), "stats": paths.flatten(stats or {})}
        layers = list(self.layers)
        if {name for name in leaves["params"] if name.startswith(f"{HEAD}/")} == {
            f"{HEAD}/{leaf.name}" for leaf in DENSE
        }:
            layers.append(Layer(HEAD, self.head, DENSE))
        tensors: dict[str, np.ndarray] = dict(self.constants)
        for layer in layers:
            for leaf in layer.leaves:
                values = np.asarray(
                    leaves[leaf.collection].pop(f"{layer.path}/{leaf.name}"), np.float32
                )
                stack = values if layer.stacked else values[None]
                for name, single in zip(layer.names(leaf), stack, strict=True):
                    if leaf.name == "kernel":
                        single = _to_torch(single, layer.side)
                    tensors[name] = np.ascontiguousarray(single)
            if layer.leaves == NORM:
                tensors[f"{layer.module}.{_COUNT}"] = np.array(0, np.int64)
        for collection, others in leaves.items():
            for path, array in others.items():
                tensors[f"{OTHERS}{collection}/{path}"] = np.asarray(array, np.float32)
        return tensors

    def check_shapes(self, weights: Weights, expected: tuple[Any, Any], origin: str) -> None:
        """Checks that the layers of converted weights fit each other.

        Args:
          weights: as `read` returns them.
          expected: parameters and statistics of the network, or their shapes.
          origin: for messages.

        Raises:
          InputError: with the list of missing, extra and misshaped layers.
        """
        modules = {layer.path: layer.module for layer in (*self.layers, Layer(HEAD, self.head, ()))}
        faults = []
        for given, wanted in zip(weights, expected, strict=True):
            have, need = paths.shapes(given), paths.shapes(wanted)
            for path in [*need, *(path for path in have if path not in need)]:
                if have.get(path) != need.get(path):
                    layer, _, name = path.rpartition("/")
                    shown = f"{modules.get(layer, layer)} has {name} {have.get(path, 'missing')}"
                    faults.append(f"{shown}, expected {need.get(path, 'none')}")
        self._refuse(faults, origin)

    def _refuse(self, faults: list[str], origin: str) -> None:
        if len(faults) > _LISTED:
            faults = [*faults[:_LISTED], f"and {len(faults) - _LISTED} more"]
        if faults:
            raise InputError(f"{origin} is not {self.title}: {'; '.join(faults)}")


def _from_torch(kernel: np.ndarray, side: int) -> np.ndarray:
    if kernel.ndim == 2 and side > 1:
        kernel = kernel.reshape(len(kernel), -1, side, side).transpose(2, 3, 1, 0)
        return np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]))
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T)


def _to_torch(kernel: np.ndarray, side: int) -> np.ndarray:
    if kernel.ndim == 2 and side > 1:
        kernel = kernel.reshape(side, side, -1, kernel.shape[-1]).transpose(3, 2, 0, 1)
        return kernel.reshape(len(kernel), -1)
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
