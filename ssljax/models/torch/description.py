"""What a file of weights is meant for, which its tensors do not say: images, classes, heads.

A `.safetensors` file has it in its metadata, as JSON by name (`ssljax.mean`, …). A `.pth` file has
no metadata.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any

from ml_collections import ConfigDict

from ssljax.models.torch import state_dict_files
from ssljax.settings.errors import InputError
from ssljax.settings.printable import quoted

_PREFIX = "ssljax."


@dataclasses.dataclass(frozen=True)
class Description:
    """How images are prepared for a network, what its outputs mean, its heads; None is unknown.

    Attributes:
      mean: of the channels in [0, 1], which is subtracted.
      std: divides the channels after that.
      image_size: side of the square images, in pixels.
      class_names: one for each output.
      dataset: TFDS's name of the data set that the classes belong to.
      test_split: of the data set.
      step: of the checkpoint that the weights come from.
      epoch: after how many epochs that was.
      heads: of the attention of a vision transformer.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = None
    class_names: tuple[str, ...] | None = None
    dataset: str | None = None
    test_split: str | None = None
    step: int | None = None
    epoch: float | None = None
    heads: int | None = None

    def missing(self) -> list[str]:
        """What is unknown and cannot be guessed."""
        return [name for name in ("mean", "std", "image_size") if name not in self.known()]

    def metadata(self) -> dict[str, str]:
        """What is known, as metadata of a file."""
        return {_PREFIX + name: json.dumps(value) for name, value in self.known().items()}

    def known(self) -> dict[str, Any]:
        """What is known, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def flags(self) -> str:
        """The flags of `ssljax.weights import` that say the same."""
        parts = [
            *(
                f"--{name}={','.join(map(repr, values))}"
                for name, values in (("mean", self.mean or ()), ("std", self.std or ()))
            ),
            f"--image_size={self.image_size}",
            quoted(f"--dataset={self.dataset}"),
        ]
        parts += [f"--heads={self.heads}"] * bool(self.heads)
        return " ".join(parts + ["--class_names=FILE"] * bool(self.class_names))

    def updated(self, other: Description) -> Description:
        """This description with what the other one knows."""
        return dataclasses.replace(self, **other.known())


UNKNOWN = Description()
# Of torchvision's weights of ImageNet. The labels of its test set are not public.
IMAGENET = Description(
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    image_size=224,
    dataset="imagenet2012",
    test_split="validation",
)


def of_run(config: ConfigDict, image_size: int, class_names: tuple[str, ...]) -> Description:
    """The description of a run's images, of its heads, and of its classes if it has outputs."""
    data = config.data
    return Description(
        tuple(data.mean),
        tuple(data.std),
        image_size,
        class_names or None,
        data.dataset,
        data.test_split,
        heads=config.model.get("heads"),
    )


def read(path: pathlib.Path) -> Description:
    """The description in a file of weights; values may still be out of range.

    Raises:
      InputError: it cannot be read.
    """
    metadata = state_dict_files.read_metadata(path)
    known = {}
    for field in dataclasses.fields(Description):
        key = _PREFIX + field.name
        if key in metadata:
            try:
                known[field.name] = _parse(field.name, metadata[key])
            except (ValueError, TypeError, RecursionError) as error:
                raise InputError(f"{path}: its metadata {key} is damaged: {error}") from error
    return Description(**known)


def _parse(name: str, text: str) -> Any:
    value = json.loads(text)
    if name in ("mean", "std"):
        return tuple(float(channel) for channel in value)
    if name == "class_names":
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise TypeError("expected a list of names")
        return tuple(value)
    if name == "epoch":
        if isinstance(value, bool) or not 0 <= float(value) < math.inf:
            raise ValueError(f"expected a number, got {value!r:.50}")
        return float(value)
    kind = int if name in ("image_size", "step", "heads") else str
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r:.50}")
    if isinstance(value, int) and not 0 <= value < 2**53:
        raise ValueError(f"out of range: {value!r:.50}")
    return value
