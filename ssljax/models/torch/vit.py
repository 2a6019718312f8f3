"""timm's layout of a vision transformer, and what a state dict says about one.

timm numbers the blocks, which are stacked here. It has positions as parameters, also fixed ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssljax.models import MODELS, positions
from ssljax.models.paths import STACKED
from ssljax.models.torch.layout import BIASED_CONVOLUTION, DENSE, LAYER_NORM, Layer, Layout, Leaf
from ssljax.models.vit import ViT

NAMES = tuple(name for name, cls in MODELS.items() if issubclass(cls, ViT))
# Of the attention in timm's models, by the channels of a token; state dicts do not say it.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
_BLOCK: dict[str, tuple[str, tuple[Leaf, ...]]] = {  # ours: timm's, and the arrays
    "norm1": ("norm1", LAYER_NORM),
    "qkv": ("attn.qkv", DENSE),
    "proj": ("attn.proj", DENSE),
    "norm2": ("norm2", LAYER_NORM),
    "fc1": ("mlp.fc1", DENSE),
    "fc2": ("mlp.fc2", DENSE),
}


def layout(model: Mapping[str, Any], image_size: int) -> Layout:
    """Where timm has the weights.

    Args:
      model: `config.model`.
      image_size: side of the images, in pixels, on which fixed positions depend.
    """
    prefix, constants = int(model["class_token"]), {}
    tokens = [Leaf("params", "cls_token", "cls_token", 3)] * prefix
    if model["positions"] == "learned":
        tokens.append(Leaf("params", positions.NAME, "pos_embed", 3))
    else:
        side = image_size // model["patch"]
        constants["pos_embed"] = positions.sincos(side, side, channels_of(model), prefix)
    layers = [
        Layer("backbone", "", tuple(tokens)),
        Layer("backbone/patch_embed", "patch_embed.proj", BIASED_CONVOLUTION),
        *(
            Layer(
                f"backbone/{STACKED}/{name}",
                f"blocks.{{}}.{module}",
                leaves,
                stacked=model["depth"],
            )
            for name, (module, leaves) in _BLOCK.items()
        ),
        Layer("backbone/norm", "norm" if model["pool"] == "token" else "fc_norm", LAYER_NORM),
    ]
    return Layout("timm's vision transformer", tuple(layers), "head", constants)


def recognise(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], int] | None:
    """What a state dict says about a vision transformer; None if it holds no blocks of one.

    The number of heads is not among it.

    Returns:
      `config.model` as far as it is known, and the side of the images in pixels.
    """
    numbers = {found[1] for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))}
    if not numbers:
        return None
    kernel, table = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    known = kernel is not None and kernel.ndim == 4 and kernel.size
    shape = kernel.shape if kernel is not None and known else (768, 3, 16, 16)
    name = min(NAMES, key=lambda each: abs(np.log(_class(each).channels / shape[0])))
    averages = "fc_norm.weight" in tensors and "norm.weight" not in tensors
    model = {
        "name": name,
        "patch": shape[2],
        "width": shape[0] / _class(name).channels,
        "depth": len(numbers),
        "class_token": "cls_token" in tensors,
        "pool": "avg" if averages else "token",
        "positions": "learned",
    }
    grid = positions.grid_of(table.shape) if table is not None else None
    if grid is None or table is None or not table.size:
        return model, 0
    prefix, side = grid
    if table.shape[-1] % 4 == 0:
        fixed = positions.sincos(side, side, table.shape[-1], prefix)
        if np.abs(fixed - table).max() < 1e-5:
            model["positions"] = "sincos"
    return model, side * shape[2]


def channels_of(model: Mapping[str, Any]) -> int:
    """The channels of a token, and the features of an image."""
    return _class(model["name"]).channels_of(model["width"])


def _class(name: str) -> type[ViT]:
    found = MODELS[name]
    assert issubclass(found, ViT)
    return found
