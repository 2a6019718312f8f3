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


def sheet(model: TrainedModel, split: str, solved: int = 6, failed: int = 6) -> Sheet:
    """The first puzzles of a split that the network solves, and the first that it does not."""
    method = model.run.method
    assert isinstance(method, Jigsaw)
    found: dict[bool, list[list[Thumbnail]]] = {True: [], False: []}
    wanted = {True: solved, False: failed}
    for batch, _, outputs in Evaluator(model.run, model.run.images(split)).batches(model.parts):
        on_device = jax.device_put(batch)
        keys = record_keys(model.run.config.seed, None, on_device["record"])
        shuffled = np.asarray(method.inputs(on_device, keys, train=False))
        right = np.asarray(method.placed(outputs)) == batch["permutation"]
        for index in np.flatnonzero(batch["mask"]):
            group = found[solves := bool(right[index].all())]
            if len(group) < wanted[solves]:
                cells = assign(np.asarray(outputs[index]).reshape(-1, 2), method.grid)
                count = int((cells == batch["permutation"][index]).sum())
                placed = _reassemble(shuffled[index], cells, method.grid)
                caption = f"{count} of {method.num_tiles} right"
                group.append(
                    [
                        Thumbnail(to_uint8(shuffled[index], method), "shuffled"),
                        Thumbnail(to_uint8(placed, method), caption, count == method.num_tiles),
                        Thumbnail(batch["image"][index], "original"),
                    ]
                )
        if all(len(found[solves]) == wanted[solves] for solves in found):
            break
    return Sheet(
        "Puzzles of",
        "Shuffled, as the network reassembles it (each tile in a place of its own, with the least "
        "total distance), original. The first puzzles that are solved, then the first that are "
        "not; the table above says how many of all are.",
        found[True] + found[False],
    )


def _reassemble(shuffled: np.ndarray, cells: np.ndarray, grid: int) -> np.ndarray:
    """An image with tile i in the cell cells[i]."""
    tiles = np.asarray(cut(jnp.asarray(shuffled[None]), grid))[0]
    placed = np.empty_like(tiles)
    placed[cells] = tiles
    return np.asarray(paste(jnp.asarray(placed[None]), grid))[0]
