"""A share of the labelled examples: seeded, stratified and nested."""

from __future__ import annotations

import dataclasses

import numpy as np

from ssljax.data.records import Records
from ssljax.settings.errors import InputError


def label_fraction(records: Records, fraction: float, seed: int) -> Records:
    """Keeps a share of every class, at least one example of each.

    The seed orders the examples of a class, and a share is the beginning of that order. So the
    examples of 5 % are among those of 10 %.

    Raises:
      InputError: the records have no labels, or a label is not among the classes.
    """
    if fraction == 1:
        return records
    if not records.class_names:
        raise InputError(f"data.label_fraction: {records.name} has no labels")
    records = records.labelled()
    return dataclasses.replace(
        records,
        name=f"{records.name}, {fraction:.3%} of the labels",
        chosen=select(records.labels(), fraction, seed),
    )


def select(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Indices of a share of every class, in increasing order.

    Args:
      labels: int[N].
      fraction: in (0, 1]; each class keeps round(fraction · its examples), at least one.
      seed: orders the examples of each class.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label)]).permutation(members)
        chosen.append(order[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))
