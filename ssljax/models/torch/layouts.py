"""The layouts of all backbones that can be exchanged with PyTorch, and which one a file has."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssljax.files import storage
from ssljax.models.alexnet import POOLED
from ssljax.models.resnet import STEMS, ResNet, ResNet10, ResNet18, ResNet34, ResNet50
from ssljax.models.torch import published, state_dict_files, vit, vit_variants
from ssljax.models.torch.layout import (
    BIASED_CONVOLUTION,
    CONVOLUTION,
    DENSE,
    NORM,
    Layer,
    Layout,
    Weights,
)
from ssljax.settings.errors import InputError


def _alexnet(batch_norm: bool) -> Layout:
    """torchvision's; with batch normalisation, the layers of `features` are numbered as in VGG."""
    convolutions = (0, 4, 8, 11, 14) if batch_norm else (0, 3, 6, 8, 10)
    layers = []
    for number, index in enumerate(convolutions, start=1):
        module = f"features.{index}"
        layers.append(Layer(f"backbone/conv{number}", module, BIASED_CONVOLUTION))
        if batch_norm:
            layers.append(Layer(f"backbone/bn{number}", f"features.{index + 1}", NORM))
    layers.append(Layer("backbone/fc6", "classifier.1", DENSE, side=POOLED))
    layers.append(Layer("backbone/fc7", "classifier.4", DENSE))
    title = "AlexNet with batch normalisation" if batch_norm else "torchvision's AlexNet"
    return Layout(title, tuple(layers), "classifier.6")


def resnet(cls: type[ResNet], depth: int) -> Layout:
    """Torchvision's layout of a ResNet.

    Args:
      cls: says its blocks.
      depth: layers, for people.
    """
    convolutions = 3 if cls.bottleneck else 2
    layers = [
        Layer("backbone/conv1", "conv1", CONVOLUTION),
        Layer("backbone/bn1", "bn1", NORM),
    ]
    for number, count in enumerate(cls.blocks, start=1):
        for block in range(count):
            ours, theirs = f"backbone/layer{number}_{block}", f"layer{number}.{block}"
            for index in range(1, convolutions + 1):
                layers.append(Layer(f"{ours}/conv{index}", f"{theirs}.conv{index}", CONVOLUTION))
                layers.append(Layer(f"{ours}/bn{index}", f"{theirs}.bn{index}", NORM))
            if block == 0 and (number > 1 or cls.bottleneck):
                module = f"{theirs}.downsample"
                layers.append(Layer(f"{ours}/downsample_conv", f"{module}.0", CONVOLUTION))
                layers.append(Layer(f"{ours}/downsample_bn", f"{module}.1", NORM))
    return Layout(f"torchvision's ResNet-{depth}", tuple(layers), "fc")


ALEXNET, ALEXNET_BN = _alexnet(batch_norm=False), _alexnet(batch_norm=True)
RESNETS = {
    "resnet10": resnet(ResNet10, 10),
    "resnet18": resnet(ResNet18, 18),
    "resnet34": resnet(ResNet34, 34),
    "resnet50": resnet(ResNet50, 50),
}


@dataclasses.dataclass(frozen=True)
class TorchWeights:
    """What a file of weights holds.

    Attributes:
      layout: of the file.
      model: `config.model` as far as the weights say it: the name, the width, and so on.
      weights: parameters and batch statistics.
      title: of the method whose authors publish such checkpoints, and of the part, such as
        `MoCo v2, encoder_q`; empty if the names are those of torchvision or timm.
      left_out: what else the checkpoint has, for people.
      heads: of the attention, if the method implies them; 0 otherwise.
    """

    layout: Layout
    model: dict[str, Any]
    weights: Weights
    title: str = ""
    left_out: str = ""
    heads: int = 0


def layout_of(model: Mapping[str, Any], image_size: int = 0) -> Layout:
    """The layout of a backbone.

    Args:
      model: `config.model`.
      image_size: side of the images, in pixels; vision transformers with fixed positions need it.

    Raises:
      InputError: PyTorch's libraries have no such backbone.
    """
    if model["name"] == "alexnet":
        return ALEXNET_BN if model["batch_norm"] else ALEXNET
    if model["name"] in vit.NAMES:
        return vit.layout(model, image_size)
    if model["name"] not in RESNETS:
        known = ", ".join(("alexnet", *RESNETS, *vit.NAMES))
        raise InputError(f"weights of {known} can be exported, not of {model['name']}")
    return RESNETS[model["name"]]


def read_file(path: str | pathlib.Path, part: str = published.STUDENT) -> TorchWeights:
    """Reads a file of weights, `.pth` or `.safetensors`, of a backbone that it is recognised as.

    Args:
      path: of the file.
      part: which network of a checkpoint that has two: `student` or `teacher`.

    Raises:
      InputError: the file cannot be read, or does not hold such a backbone or such a part.
    """
    tensors = state_dict_files.read(storage.path(path, "init_from"))
    return recognise(tensors, str(path), part)


def recognise(
    tensors: Mapping[str, np.ndarray],
    origin: str = "the state dict",
    part: str = published.STUDENT,
) -> TorchWeights:
    """Reads a state dict as the backbone whose tensors have the most similar names.

    Args:
      tensors: by the names of torchvision or timm, or as in `ssljax.models.torch.published`.
      origin: for messages.
      part: see `read_file`.

    Raises:
      InputError: it does not hold such a backbone; see `Layout.read`.
    """
    network = published.network_of(tensors, part, origin)
    origin = f"{origin} ({network.title})" if network.title else origin
    tensors = vit_variants.plain(network.tensors, origin)
    candidates: list[tuple[Layout, dict[str, Any]]] = [
        (ALEXNET, {"name": "alexnet", "batch_norm": False}),
        (ALEXNET_BN, {"name": "alexnet", "batch_norm": True}),
        *((layout, {"name": name}) for name, layout in RESNETS.items()),
    ]
    if transformer := vit.recognise(tensors):
        candidates.append((vit.layout(*transformer), transformer[0]))
    layout, model = min(candidates, key=lambda each: len(each[0].names() ^ set(tensors)))
    weights = layout.read(tensors, origin)
    backbone, heads = weights.params["backbone"], 0
    # The widest layers say the width the most exactly.
    if model["name"] in vit.NAMES:
        heads = network.heads.get(vit.channels_of(model), 0)
    elif model["name"] == "alexnet":
        model["width"] = backbone["fc7"]["kernel"].shape[-1] / 4096
    else:
        model["width"] = backbone["layer4_0"]["conv2"]["kernel"].shape[-1] / 512
        side = backbone["conv1"]["kernel"].shape[0]
        model["stem"] = next((name for name, known in STEMS.items() if known == side), "imagenet")
    return TorchWeights(layout, model, weights, network.title, network.left_out, heads)
