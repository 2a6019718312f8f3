"""The slides' 3×3 puzzle in PyTorch alone: which of its settings keep it from being learned?

    python -m benchmarks.slides_puzzle
    python -m benchmarks.slides_puzzle --only=slides,no_decay --images=42000 --epochs=6

The network, its initial weights, the optimiser and the schedule are PyTorch's and torchvision's;
ssljax only reads the images. Each variant changes one of the slides' settings. The data set is
TFDS's `fashion_mnist` as ArrayRecord (docs/data.md), or `fashion_mnist_10k`, which comes with
ssljax. What came out is in docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks import contenders, puzzle_task
from ssljax.data.images import decode
from ssljax.data.records import open_records

if TYPE_CHECKING:
    import torch

GRID, TILE, GAP = 3, 36, 6
CELLS = GRID**2
BATCH, RATE, STEP, FACTOR = 64, 5e-4, 5, 0.3
SLIDES = {"decay": 1e-3, "initializer": "pytorch", "normalize": False, "gap": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "slides": {},
    "small_decay": {"decay": 1e-5},
    "no_decay": {"decay": 0.0},
    "decoupled_decay": {"decoupled": True},
    "lecun": {"initializer": "lecun"},
    "normalized_tiles": {"normalize": True},
    "gap": {"gap": GAP},
}


def read(dataset: str, split: str, count: int) -> np.ndarray:
    """uint8[N, S, S]: the first images of a split, grey, bilinear, with S = GRID · TILE."""
    records = open_records(dataset, split)
    size = (GRID * TILE, GRID * TILE)
    images = []
    for image, _ in records.read(range(min(count, len(records)))):
        grey = Image.fromarray(np.asarray(decode(image))[..., 0])
        images.append(np.asarray(grey.resize(size, Image.Resampling.BILINEAR)))
    return np.stack(images)


def network(width: float, initializer: str) -> torch.nn.Module:
    """AlexNet for puzzles, with PyTorch's initial weights or LeCun's (1998, section 4.6)."""
    import torch

    model = puzzle_task.torch_network(width)
    if initializer == "lecun":
        for layer in model.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                inputs = layer.weight[0].numel()
                torch.nn.init.normal_(layer.weight, std=inputs**-0.5)
                assert layer.bias is not None
                torch.nn.init.zeros_(layer.bias)
    return model


def puzzles(
    images: np.ndarray, rng: np.random.Generator, gap: int, normalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shuffles the tiles of images.

    Args:
      images: uint8[B, S, S].
      rng: draws the permutations and where the windows lie.
      gap: a tile shows a window that is smaller by so many pixels, with zeros around it.
      normalize: give each tile mean 0 and standard deviation 1.

    Returns:
      float32[B, 3, S, S] images, and int64[B, 9]: the place that each tile came from.
    """
    import torch

    scaled = images.astype(np.float32) / 127.5 - 1
    shown = np.zeros_like(scaled)
    orders = np.stack([rng.permutation(CELLS) for _ in images])
    side, before = TILE - gap, gap // 2
    for image, order, target in zip(scaled, orders, shown, strict=True):
        for place, source in enumerate(order):
            down, right = rng.integers(0, gap + 1, 2)
            row, column = source // GRID * TILE + down, source % GRID * TILE + right
            tile = image[row : row + side, column : column + side]
            if normalize:
                tile = (tile - tile.mean()) / (tile.std() + 0.05)
            row, column = place // GRID * TILE + before, place % GRID * TILE + before
            target[row : row + side, column : column + side] = tile
    stacked = torch.from_numpy(shown)[:, None].expand(-1, 3, -1, -1)
    return stacked.contiguous(memory_format=torch.channels_last), torch.from_numpy(orders)


def coordinates(orders: torch.Tensor) -> torch.Tensor:
    """float32[B, 18]: the (row, column) of each tile, scaled to [-1, 1]."""
    import torch

    cells = torch.stack([orders // GRID, orders % GRID], -1) - 1
    return cells.reshape(len(orders), -1).float()


def evaluate(model: torch.nn.Module, images: np.ndarray, **look: Any) -> dict[str, float]:
    """The mean squared error, and the share of tiles whose nearest place is the right one."""
    import torch

    model.eval()
    errors, right = [], []
    rng = np.random.default_rng(1)
    for start in range(0, len(images), BATCH):
        inputs, orders = puzzles(images[start : start + BATCH], rng, **look)
        with torch.no_grad():
            outputs = model(inputs)
        errors += ((outputs - coordinates(orders)) ** 2).mean(1).tolist()
        cells = (outputs.reshape(-1, CELLS, 2).round().clip(-1, 1) + 1).long()
        right += (cells[..., 0] * GRID + cells[..., 1] == orders).float().mean(1).tolist()
    return {"error": float(np.mean(errors)), "tiles placed": float(np.mean(right))}


def train(
    settings: Mapping[str, Any], images: np.ndarray, test: np.ndarray, options: argparse.Namespace
) -> list[dict[str, float]]:
    """Trains with some settings, and evaluates after each epoch."""
    import torch

    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = network(options.width, settings["initializer"]).to(memory_format=torch.channels_last)
    kind = torch.optim.AdamW if settings.get("decoupled") else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=RATE, weight_decay=settings["decay"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, STEP, FACTOR)
    look = {key: settings[key] for key in ("gap", "normalize")}
    epochs = []
    for _ in range(options.epochs):
        start = time.perf_counter()
        model.train()
        order = rng.permutation(len(images))
        for first in range(0, len(images) - BATCH + 1, BATCH):
            inputs, orders = puzzles(images[order[first : first + BATCH]], rng, **look)
            loss = ((model(inputs) - coordinates(orders)) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        epochs.append(evaluate(model, test, **look))
        print(f"  {epochs[-1]}  {time.perf_counter() - start:.0f} s", flush=True)
    return epochs


def main() -> None:
    """Trains the variants and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(VARIANTS), help="variants, comma-separated")
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--train_split", default="train[:70%]")
    parser.add_argument("--test_split", default="test")
    parser.add_argument("--images", type=int, default=42_000, help="number to train on")
    parser.add_argument("--test_images", type=int, default=10_000, help="number to test on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25, help="of AlexNet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="", help="also write the results to this file")
    options = parser.parse_args()
    images = read(options.dataset, options.train_split, options.images)
    test = read(options.dataset, options.test_split, options.test_images)
    results = {}
    for name in options.only.split(","):
        settings = {**SLIDES, **VARIANTS[name]}
        print(f"{name}: {settings}", flush=True)
        results[name] = train(settings, images, test, options)
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    epochs = range(1, options.epochs + 1)
    print(
        f"\n{contenders.machine()}\n\n| variant | {' | '.join(map(str, epochs))} | tiles placed |"
    )
    print(f"| --- |{' --- |' * (options.epochs + 1)}")
    for name, found in results.items():
        errors = " | ".join(f"{each['error']:.3f}" for each in found)
        print(f"| {name} | {errors} | {found[-1]['tiles placed']:.1%} |")


if __name__ == "__main__":
    main()
