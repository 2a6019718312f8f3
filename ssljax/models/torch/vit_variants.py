"""Vision transformers with more than timm's plain one, whose tensors can become those of one."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from ssljax.settings.errors import InputError

# Of DINOv2 and timm.
_UNSUPPORTED = {
    "register tokens": r"register_tokens|reg_token",
    "SwiGLU layers": r"blocks\.[\d.]+\.mlp\.(w12|w3|fc1_g)\.\w+",
}
_CHUNKED = re.compile(r"blocks\.\d+\.(\d+\..+)")
# What LayerScale multiplies the outputs of.
_SCALED = {"ls1": "attn.proj", "ls2": "mlp.fc2"}


def plain(tensors: Mapping[str, np.ndarray], origin: str) -> dict[str, np.ndarray]:
    """The tensors of a plain vision transformer that computes the same.

    DINOv2's training checkpoints have a number of a chunk before that of the block; it is left out.
    LayerScale multiplies the outputs of a linear layer by constants, so its weights and biases are
    multiplied by them.

    Source of LayerScale: Touvron et al. (2021), "Going deeper with Image Transformers", section 2.

    Args:
      tensors: by timm's names; those of other networks are returned as they are.
      origin: for messages.

    Raises:
      InputError: the network has what no plain one can compute.
    """
    for what, pattern in _UNSUPPORTED.items():
        if found := next((name for name in tensors if re.fullmatch(pattern, name)), ""):
            raise InputError(f"{origin} has {what} ({found}), which are not supported")
    result: dict[str, np.ndarray] = {}
    for name, values in tensors.items():
        chunked = _CHUNKED.fullmatch(name)
        short = f"blocks.{chunked[1]}" if chunked else name
        if short in result:
            raise InputError(f"{origin} has {short} in two chunks of blocks")
        result[short] = values
    for name in [name for name in result if name.endswith(".gamma")]:
        _fold(result, name)
    return result


def _fold(tensors: dict[str, np.ndarray], name: str) -> None:
    """Multiplies a linear layer by a LayerScale; both stay as they are if they do not fit."""
    block, _, scale = name.removesuffix(".gamma").rpartition(".")
    if scale not in _SCALED:
        return
    gamma = np.asarray(tensors[name], np.float32)
    layer = f"{block}.{_SCALED[scale]}"
    kernel, bias = tensors.get(f"{layer}.weight"), tensors.get(f"{layer}.bias")
    if kernel is None or bias is None or kernel.ndim != 2 or gamma.ndim != 1:
        return
    if kernel.shape[0] == len(gamma) == bias.size and bias.ndim == 1:
        del tensors[name]
        tensors[f"{layer}.weight"] = np.asarray(kernel, np.float32) * gamma[:, None]
        tensors[f"{layer}.bias"] = np.asarray(bias, np.float32) * gamma
