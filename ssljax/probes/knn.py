"""Classification by the nearest neighbours, weighted by similarity."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

TEMPERATURE = 0.07
NEIGHBOURS = (20, 200)
SHOWN = NEIGHBOURS[0]  # where there is room for one number only
_SIMILARITIES = 2**24  # that are held at once: 64 MiB


def votes(
    bank: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    neighbours: Sequence[int] = NEIGHBOURS,
) -> dict[int, np.ndarray]:
    """The votes of the most similar images of a bank for each class.

    A neighbour of cosine similarity s has exp(s / 0.07) votes for its class.

    Source: Wu, Xiong, Yu and Lin (2018), "Unsupervised Feature Learning via Non-Parametric
    Instance Discrimination", section 3.4. Caron et al. (2021), "Emerging Properties in
    Self-Supervised Vision Transformers", use 20 neighbours; Wu et al. use 200.

    Args:
      bank: float32[N, D], the features of images with labels.
      labels: int[N], from 0 to `classes` - 1.
      queries: float32[M, D].
      classes: their number.
      neighbours: how many vote; with fewer images in the bank, all of them do.

    Returns:
      For each of `neighbours`, float32[M, classes].
    """
    unit_bank, on_device = jax.device_put((_unit(bank), labels.astype(np.int32)))
    chunk = min(max(1, _SIMILARITIES // len(bank)), len(queries))
    found: list[list[np.ndarray]] = []
    for start in range(0, len(queries), chunk):
        part = _unit(queries[start : start + chunk])
        padded = np.pad(part, ((0, chunk - len(part)), (0, 0)))  # so that one shape is compiled
        results = _votes(unit_bank, on_device, padded, classes, tuple(neighbours))
        found.append([np.asarray(result)[: len(part)] for result in results])
    parts = zip(*found, strict=True)
    return {count: np.concatenate(part) for count, part in zip(neighbours, parts, strict=True)}


@functools.partial(jax.jit, static_argnames=("classes", "neighbours"))
def _votes(
    bank: jax.Array,
    labels: jax.Array,
    queries: jax.Array,
    classes: int,
    neighbours: tuple[int, ...],
) -> list[jax.Array]:
    """float32[M, classes] for each of `neighbours`, of features of length 1."""
    cosines = jnp.matmul(queries, bank.T, precision="highest")
    similarities, places = jax.lax.top_k(cosines, min(max(neighbours), len(bank)))
    weights = jnp.exp(similarities / TEMPERATURE)
    rows = jnp.arange(len(queries))[:, None]
    none = jnp.zeros((len(queries), classes))
    return [
        none.at[rows, labels[places[:, :count]]].add(weights[:, :count]) for count in neighbours
    ]


def _unit(features: np.ndarray) -> np.ndarray:
    """Features of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)
