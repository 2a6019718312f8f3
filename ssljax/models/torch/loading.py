"""The lines of Python that load exported weights in other libraries, for their model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ssljax.models.torch import vit
from ssljax.models.torch.description import Description
from ssljax.models.torch.layout import OTHERS

_IMPORTS = """\
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize, to_tensor
"""
# Stems of ResNets that these libraries lack.
_STEMS = {
    "small": "torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)",
    "strided": "torch.nn.Conv2d(3, 64, 5, stride=2, padding=2, bias=False)",
}


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
    name = model["name"]
    if name in vit.NAMES:
        return [_timm_vit(model, description, outputs)]
    resnet = name.startswith("resnet")
    if name != "alexnet" and not resnet:
        return []
    title = f"ResNet-{name.removeprefix('resnet')}" if resnet else "AlexNet"
    differs = ""
    if model["width"] != 1:
        differs = f"no `width` other than 1, and this one's is {model['width']:g}"
    elif not resnet and model["batch_norm"]:
        differs = "no batch normalisation"
    if differs:
        said = f"The tensors have the names and the layout of torchvision's {title}, but it cannot "
        return [Loading("torchvision", f"{said}load them: it has {differs}.")]
    stem = model["stem"] if resnet else ""
    cut = "model.fc = torch.nn.Identity()" if resnet else "model.classifier = model.classifier[:-1]"
    width = {"alexnet": 4096, "resnet50": 2048}.get(name, 512)
    head = "fc" if resnet else "classifier.6"
    found = [_torchvision(name, description, outputs, head, cut, width, stem)]
    if stem == "imagenet" and name != "resnet10":
        found.append(_timm(name, description, outputs, head, width))
    return found


def _torchvision(
    name: str,
    description: Description,
    outputs: int | None,
    head: str,
    cut: str,
    width: int,
    stem: str,
) -> Loading:
    replaced = ""
    if stem in _STEMS:
        replaced = f"model.conv1 = {_STEMS[stem]}\nmodel.maxpool = torch.nn.Identity()\n"
    shallow = name == "resnet10"
    network = "ResNet" if shallow else name
    blocks = ["torchvision.models.resnet.BasicBlock", "[1, 1, 1, 1]"] if shallow else []
    if outputs is not None:
        arguments = ", ".join([*blocks, f"num_classes={outputs}"])
        text = (
            f"`torchvision.models.{network}` loads all weights. Its outputs are the logits of the "
            f"{outputs} classes, in their order."
        )
        made = (
            f"model = torchvision.models.{network}({arguments})\n{replaced}"
            'model.load_state_dict(load_file("model.safetensors"), strict=True)\n'
        )
    else:
        text = (
            f"`torchvision.models.{network}` loads the backbone. What is missing is its last "
            f"layer, `{head}`, since these weights were not trained to classify: train a layer of "
            "your own on the features."
        )
        made = (
            f"{_backbone(head)}"
            f"model = torchvision.models.{network}({', '.join(blocks)})\n{replaced}"
            "missing, unexpected = model.load_state_dict(backbone, strict=False)\n"
            f'assert missing == ["{head}.weight", "{head}.bias"] and not unexpected\n'
            f"{cut}\n"
        )
    if replaced:
        text += " It has no stem for small images, so the lines put this one in place of its own."
    lines = (
        f"import torch\nimport torchvision\n{_IMPORTS}\n{made}{_use(description, outputs, width)}"
    )
    return Loading("torchvision", text, lines)


def _timm(
    name: str, description: Description, outputs: int | None, head: str, width: int
) -> Loading:
    if outputs is not None:
        text = f"`{name}` of timm loads all weights."
        tensors, given = "", 'load_file("model.safetensors")'
    else:
        text = f"`{name}` of timm, without a last layer, loads the backbone."
        tensors, given = _backbone(head), "backbone"
    made = (
        f'{tensors}model = timm.create_model("{name}", num_classes={outputs or 0})\n'
        f"model.load_state_dict({given}, strict=True)\n"
    )
    lines = f"import timm\nimport torch\n{_IMPORTS}\n{made}{_use(description, outputs, width)}"
    return Loading("timm", text, lines)


def _timm_vit(model: Mapping[str, Any], description: Description, outputs: int | None) -> Loading:
    """By timm's class, since its models by name have neither such patches nor such depths."""
    channels = vit.channels_of(model)
    tensors, given = "", 'load_file("model.safetensors")'
    text = "timm's `VisionTransformer` loads "
    if outputs is not None:
        text += "all weights."
    else:
        text += "the backbone, without a last layer."
        tensors, given = _backbone("head"), "backbone"
    made = f"""\
{tensors}model = VisionTransformer(
    img_size={description.image_size}, patch_size={model["patch"]}, embed_dim={channels},
    depth={model["depth"]}, num_heads={model["heads"]}, class_token={model["class_token"]},
    global_pool="{model["pool"]}", num_classes={outputs or 0},
)
model.load_state_dict({given}, strict=True)
"""
    imports = (
        f"import torch\nfrom timm.models.vision_transformer import VisionTransformer\n{_IMPORTS}"
    )
    return Loading("timm", text, f"{imports}\n{made}{_use(description, outputs, channels)}")


def _backbone(head: str) -> str:
    return f"""\
tensors = load_file("model.safetensors")
others = ("{head}.", "{OTHERS}")  # the heads of the method
backbone = {{name: value for name, value in tensors.items() if not name.startswith(others)}}
"""


def _use(description: Description, outputs: int | None, width: int) -> str:
    """Prepares an image exactly as ssljax does, and calls the model."""
    mean, std = list(description.mean or ()), list(description.std or ())
    size = description.image_size
    result, count = ("features", width) if outputs is None else ("logits", outputs)
    return f'''\
model.eval()


def prepare(image):
    """The centre square, resized with antialiasing, and normalised: float32[3, {size}, {size}]."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    image = image.resize(({size}, {size}), Image.Resampling.BILINEAR)
    return normalize(to_tensor(image), mean={mean}, std={std})


with torch.no_grad():
    {result} = model(prepare(Image.open("image.jpg"))[None])  # float32[1, {count}]
'''
