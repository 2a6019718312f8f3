"""Classification with a ResNet or a vision transformer, for `train_step`.

Normalising the images is part of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from ml_collections import ConfigDict

CLASSES = 10
CLASS_NAMES = tuple(map(str, range(CLASSES)))
# Up to this size, ResNets have the stem for small images and patches have 4 px, not 16.
_SMALL = 64


def config(model: str, size: int, batch: int, width: float, dtype: str = "auto") -> ConfigDict:
    """The config of classification.

    Args:
      model: a key of `ssljax.models.MODELS`.
      size: side of the images, in pixels.
      batch: the batch size.
      width: of the model.
      dtype: `float32`, `bfloat16` or `auto`.
    """
    from ssljax.settings import config_files

    config = config_files.load(f"configs/pretrain.py:method=classification,model={model}")
    config.data.dataset, config.data.image_size = "made_up", size
    if "stem" in config.model:
        config.model.stem = "small" if size <= _SMALL else "imagenet"
    else:
        config.model.patch = 4 if size <= _SMALL else 16
    config.batch_size, config.model.width, config.model.dtype = batch, width, dtype
    return config


def data(batch: int, size: int) -> dict[str, np.ndarray]:
    """Random images and classes."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (batch, size, size, 3), np.uint8),
        "label": rng.integers(0, CLASSES, batch, np.int32),
        "record": np.arange(batch, dtype=np.int32),
        "mask": np.ones(batch, bool),
    }


def torch_network(model: str, size: int, width: float) -> torch.nn.Module:
    """A ResNet of torchvision's or a vision transformer of timm's, of the same width."""
    # It lets torchvision's build for CUDA be imported beside PyTorch's for CPUs.
    from tests import references

    if model.startswith("vit"):
        timm = references.load("timm")
        channels = {"vit_tiny": 192, "vit_small": 384, "vit_base": 768}[model]
        return timm.create_model(
            f"{model}_patch16_224", img_size=size, patch_size=4 if size <= _SMALL else 16,
            embed_dim=round(channels * width), num_classes=CLASSES,
        )  # fmt: skip
    from torch import nn

    resnet = references.load("torchvision.models.resnet")

    def of(channels: int) -> int:
        return max(1, round(channels * width))

    class Narrow(resnet.ResNet):  # type: ignore[name-defined]
        def _make_layer(self, block: Any, planes: int, *rest: Any, **options: Any) -> nn.Module:
            if planes == 64:
                self.inplanes = of(64)
            return super()._make_layer(block, of(planes), *rest, **options)

    blocks = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}[model]
    block = resnet.Bottleneck if model == "resnet50" else resnet.BasicBlock
    network = Narrow(block, list(blocks))
    network.bn1 = nn.BatchNorm2d(of(64))
    network.fc = nn.Linear(of(512) * block.expansion, CLASSES)
    if size <= _SMALL:
        network.conv1 = nn.Conv2d(3, of(64), 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.Conv2d(3, of(64), 7, 2, 3, bias=False)
    return network


def torch_loss(
    network: Callable[[torch.Tensor], torch.Tensor], data: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The mean cross entropy.

    Args:
      network: maps float32[B, H, W, 3] images to outputs.
      data: see `data`.
    """
    import torch

    outputs = network((data["image"].float() / 255 - 0.5) / 0.5)
    return torch.nn.functional.cross_entropy(outputs.float(), data["label"].long())
