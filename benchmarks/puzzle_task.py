"""Shuffled tiles with AlexNet, the pretext task of the Bern group's slides, for `train_step`.

Normalising the images and shuffling their tiles is part of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from ml_collections import ConfigDict

SIZE, GRID = 225, 3
CLASS_NAMES: tuple[str, ...] = ()


def config(batch: int, width: float, dtype: str = "auto") -> ConfigDict:
    """The config of 3×3 puzzles with AlexNet.

    Args:
      batch: the batch size.
      width: of AlexNet.
      dtype: `float32`, `bfloat16` or `auto`.
    """
    from ssljax.settings import config_files

    config = config_files.load("configs/jigsaw.py:3x3")
    config.batch_size, config.model.width, config.model.dtype = batch, width, dtype
    return config


def data(batch: int) -> dict[str, np.ndarray]:
    """Random images and permutations."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8),
        "permutation": np.stack([rng.permutation(GRID**2) for _ in range(batch)]).astype(np.int32),
        "label": np.full(batch, -1, np.int32),
        "record": np.arange(batch, dtype=np.int32),
        "mask": np.ones(batch, bool),
    }


def torch_network(width: float) -> torch.nn.Module:
    """The AlexNet of torchvision, with outputs for a puzzle."""
    from torch import nn

    def of(channels: int) -> int:
        return max(1, round(channels * width))

    layers: list[nn.Module] = []
    inputs = 3
    for channels, kernel, stride, padding, pool in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False),
        (256, 3, 1, 1, False), (256, 3, 1, 1, True),
    ):  # fmt: skip
        layers += [nn.Conv2d(inputs, of(channels), kernel, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if pool else []
        inputs = of(channels)
    layers += [nn.AdaptiveAvgPool2d(6), nn.Flatten()]
    layers += [nn.Dropout(), nn.Linear(36 * inputs, of(4096)), nn.ReLU(inplace=True)]
    layers += [nn.Dropout(), nn.Linear(of(4096), of(4096)), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(of(4096), 2 * GRID**2))


def torch_loss(
    network: Callable[[torch.Tensor], torch.Tensor], data: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The mean squared error of the tiles' places.

    Args:
      network: maps float32[B, H, W, 3] images to outputs.
      data: see `data`.
    """
    import torch

    batch, tile = len(data["image"]), SIZE // GRID
    images = (data["image"].float() / 255 - 0.5) / 0.5
    tiles = images.reshape(batch, GRID, tile, GRID, tile, 3).transpose(2, 3)
    tiles = tiles.reshape(batch, GRID**2, tile, tile, 3)
    order = data["permutation"].long()
    tiles = tiles[torch.arange(batch, device=order.device)[:, None], order]
    tiles = tiles.reshape(batch, GRID, GRID, tile, tile, 3).transpose(2, 3)
    outputs = network(tiles.reshape(batch, SIZE, SIZE, 3))
    cells = torch.stack([order // GRID, order % GRID], -1) * (2 / (GRID - 1)) - 1
    return ((outputs.float() - cells.reshape(batch, -1)) ** 2).mean()
