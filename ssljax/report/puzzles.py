"""A sheet of puzzles: shuffled, as the network reassembles them, original."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from ssljax.report.pictures import Tile, to_uint8
from ssljax.tasks.jigsaw import Jigsaw, cut, paste
from ssljax.trained_model import TrainedModel
from ssljax.training.evaluation import Evaluator


def assign(coordinates: np.ndarray, grid: int) -> np.ndarray:
    """Gives each tile a cell of its own so that the squared distances add up to the least.

    Args:
      coordinates: float[grid², 2], predicted (row, column) in [-1, 1].

    Returns:
      int[grid²], the cell of each tile.
    """
    axis = np.arange(grid) * 2 / (grid - 1) - 1
    cells = np.array(list(itertools.product(axis, axis)))
    cost = ((coordinates[:, None] - cells[None]) ** 2).sum(axis=-1)
    return linear_sum_assignment(cost)[1]


def sheet(model: TrainedModel, split: str, count: int = 8) -> list[tuple[Tile, Tile, Tile]]:
    """The first puzzles of a split.

    Returns:
      For each a shuffled, a reassembled and an original picture; the middle one is captioned with
      how many tiles stand right.
    """
    task = model.run.task
    assert isinstance(task, Jigsaw)
    evaluator = Evaluator(model.run, model.run.pictures(split))
    batch, _, outputs = next(evaluator.batches(model.params))
    shuffled = np.asarray(task.inputs(jax.device_put(batch)))
    tiles = np.asarray(cut(jnp.asarray(shuffled), task.grid))
    rows = []
    for index in range(min(count, int(batch["mask"].sum()))):
        cells = assign(np.asarray(outputs[index]).reshape(-1, 2), task.grid)
        placed = np.empty_like(tiles[index])
        placed[cells] = tiles[index]
        right = int((cells == batch["permutation"][index]).sum())
        rows.append(
            (
                Tile(to_uint8(shuffled[index], task), "shuffled"),
                Tile(
                    to_uint8(np.asarray(paste(jnp.asarray(placed[None]), task.grid))[0], task),
                    f"{right} of {task.num_tiles} right",
                    right == task.num_tiles,
                ),
                Tile(batch["image"][index], "original"),
            )
        )
    return rows
