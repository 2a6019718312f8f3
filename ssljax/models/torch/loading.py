"""The lines of Python that load exported weights in other libraries, for their model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ssljax.models.torch.description import Description


@dataclasses.dataclass(frozen=True)
class Loading:
    """How a library loads the weights.

    Attributes:
      library: its name.
      text: what the lines do, or why there are none.
      lines: they read `model.safetensors` and `image.jpg`, and compute `logits` or `features`;
        empty if the library has no such model.
    """

    library: str
    text: str
    lines: str = ""


def loadings(
    model: Mapping[str, Any], description: Description, outputs: int | None
) -> list[Loading]:
    """How other libraries load a backbone.

    Args:
      model: `config.model`.
      description: how images are prepared.
      outputs: of a classification; None for other methods, whose heads these libraries lack.
    """
    of_backbone = _LOADINGS.get(model["name"])
    return of_backbone(model, description, outputs) if of_backbone else []


def _alexnet(
    model: Mapping[str, Any], description: Description, outputs: int | None
) -> list[Loading]:
    if model["width"] != 1:
        return [
            Loading(
                "torchvision",
                "The tensors have the names and the layout of torchvision's AlexNet, but it cannot "
                f"load them: it has no `width` other than 1, and this one's is {model['width']:g}.",
            )
        ]
    if outputs is not None:
        return [_classifier("alexnet", description, outputs)]
    return [
        _backbone(
            "alexnet",
            description,
            head="classifier.6",
            cut="model.classifier = model.classifier[:-1]  # up to fc7",
            width=4096,
        )
    ]


def _classifier(name: str, description: Description, outputs: int) -> Loading:
    lines = f"""\
import torch
import torchvision
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize, to_tensor

model = torchvision.models.{name}(num_classes={outputs})
model.load_state_dict(load_file("model.safetensors"), strict=True)
model.eval()

{_prepare(description)}

with torch.no_grad():
    logits = model(prepare(Image.open("image.jpg"))[None])  # float32[1, {outputs}]
"""
    return Loading(
        "torchvision",
        f"`torchvision.models.{name}` loads all weights. Its outputs are the logits of the "
        f"{outputs} classes, in their order.",
        lines,
    )


def _backbone(name: str, description: Description, head: str, cut: str, width: int) -> Loading:
    lines = f"""\
import torch
import torchvision
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize, to_tensor

tensors = load_file("model.safetensors")
others = ("{head}.", "ssljax.")  # the heads of the method
backbone = {{name: value for name, value in tensors.items() if not name.startswith(others)}}
model = torchvision.models.{name}()
missing, unexpected = model.load_state_dict(backbone, strict=False)
assert missing == ["{head}.weight", "{head}.bias"] and not unexpected
{cut}
model.eval()

{_prepare(description)}

with torch.no_grad():
    features = model(prepare(Image.open("image.jpg"))[None])  # float32[1, {width}]
"""
    return Loading(
        "torchvision",
        f"`torchvision.models.{name}` loads the backbone. What is missing is its last layer, "
        f"`{head}`, since these weights were not trained to classify: train a layer of your own "
        "on the features.",
        lines,
    )


def _prepare(description: Description) -> str:
    """A function that prepares an image exactly as ssljax does."""
    mean, std = list(description.mean or ()), list(description.std or ())
    size = description.image_size
    return f'''\
def prepare(image):
    """The centre square, resized with antialiasing, and normalised: float32[3, {size}, {size}]."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    image = image.resize(({size}, {size}), Image.Resampling.BILINEAR)
    return normalize(to_tensor(image), mean={mean}, std={std})
'''


_LOADINGS: dict[str, Callable[[Mapping[str, Any], Description, int | None], list[Loading]]] = {
    "alexnet": _alexnet,
}
