"""Sets of permutations that differ in many places."""

from __future__ import annotations

import functools
import math

import numpy as np

CRITERIA = ("mean", "minimum")
# The number of permutations of 9 tiles. Of more tiles, so many random ones are considered.
_MOST = math.factorial(9)


@functools.cache
def permutation_set(tiles: int, count: int, criterion: str, seed: int) -> np.ndarray:
    """Chooses permutations one after the other, each as far from the earlier ones as possible.

    The first one is random. Of equally good ones the first in lexicographic order is taken. With
    more than 9 tiles, they are chosen from a random sample.

    Source: Noroozi and Favaro (2016), "Unsupervised Learning of Visual Representations by Solving
    Jigsaw Puzzles", algorithm 1, for the criterion `mean`.

    Args:
      tiles: T.
      count: N, of the permutations; at most T!, and at most 9!.
      criterion: what is maximised: the `mean` or the `minimum` of the Hamming distances to the
        earlier ones. The distance of two permutations is the number of places where they differ.
      seed: of the first one, and of the sample.

    Returns:
      int32[N, T], not writable.
    """
    rng = np.random.default_rng(seed)
    # Columns are contiguous, and bytes are compared fastest.
    columns = np.ascontiguousarray(_candidates(tiles, rng).T)
    size = columns.shape[1]
    chosen = [int(rng.integers(size))]
    differs = np.empty(size, bool)
    mean = criterion == "mean"
    score = np.zeros(size, np.int32) if mean else np.full(size, tiles, np.uint8)
    while len(chosen) < count:
        distance = np.zeros(size, np.uint8)
        for column in columns:
            np.not_equal(column, column[chosen[-1]], out=differs)
            distance += differs.view(np.uint8)
        if mean:  # of sums, which have the same order
            score += distance
            score[chosen[-1]] = np.iinfo(np.int32).min // 2  # is not chosen again
        else:
            np.minimum(score, distance, out=score)
        chosen.append(int(score.argmax()))
    found = columns[:, chosen].T.astype(np.int32)
    found.setflags(write=False)
    return found


def _candidates(tiles: int, rng: np.random.Generator) -> np.ndarray:
    """uint8[K, T]: different permutations in lexicographic order; all, or a random sample."""
    if math.factorial(tiles) > _MOST:
        rows = np.tile(np.arange(tiles, dtype=np.uint8), (_MOST, 1))
        return np.unique(rng.permuted(rows, axis=1), axis=0)
    rows = np.zeros((1, 0), np.uint8)
    for length in range(1, tiles + 1):
        first = np.repeat(np.arange(length, dtype=np.uint8), len(rows))[:, None]
        rest = np.tile(rows, (length, 1))
        rows = np.concatenate([first, rest + (rest >= first)], axis=1)
    return rows
