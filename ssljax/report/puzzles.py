"""A sheet of puzzles: shuffled, as the network reassembles them, original."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from ssljax.methods.jigsaw import Jigsaw
from ssljax.methods.tiles import cut, paste
from ssljax.report.thumbnails import Sheet, Thumbnail, to_uint8
from ssljax.runs.trained_model import TrainedModel
from ssljax.training.validation import Evaluator
from ssljax.views.keys import record_keys


def assign(coordinates: np.ndarray, grid: int) -> np.ndarray:
    """Gives each tile a cell of its own so that the sum of squared distances is the least.

    Args:
      coordinates: float[grid², 2], predicted (row, column) in [-1, 1].
      grid: tiles along each side.

    Returns:
      int[grid²], the cell of each tile.
    """
    axis = np.arange(grid) * 2 / (grid - 1) - 1
    cells = np.array(list(itertools.product(axis, axis)))
    cost = ((coordinates[:, None] - cells[None]) ** 2).sum(axis=-1)
    return linear_sum_assignment(cost)[1]


def sheet(model: TrainedModel, split: str, count: int = 8) -> Sheet:
    """The first puzzles of a split, with the number of tiles that the network places right."""
    method = model.run.method
    assert isinstance(method, Jigsaw)
    evaluator = Evaluator(model.run, model.run.images(split))
    batch, _, outputs = next(evaluator.batches(model.parts))
    on_device = jax.device_put(batch)
    keys = record_keys(model.run.config.seed, None, on_device["record"])
    shuffled = np.asarray(method.inputs(on_device, keys, train=False))
    tiles = np.asarray(cut(jnp.asarray(shuffled), method.grid))
    groups = []
    for index in range(min(count, int(batch["mask"].sum()))):
        cells = assign(np.asarray(outputs[index]).reshape(-1, 2), method.grid)
        placed = np.empty_like(tiles[index])
        placed[cells] = tiles[index]
        right = int((cells == batch["permutation"][index]).sum())
        reassembled = np.asarray(paste(jnp.asarray(placed[None]), method.grid))[0]
        groups.append(
            [
                Thumbnail(to_uint8(shuffled[index], method), "shuffled"),
                Thumbnail(
                    to_uint8(reassembled, method),
                    f"{right} of {method.num_tiles} right",
                    right == method.num_tiles,
                ),
                Thumbnail(batch["image"][index], "original"),
            ]
        )
    return Sheet(
        "Puzzles of",
        "Shuffled, as the network reassembles it (each tile in a place of its own, with the least "
        "total distance), original.",
        groups,
    )
