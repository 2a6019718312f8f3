"""Sheets of images that show what a run does, by method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from ssljax.methods.jigsaw import Jigsaw
from ssljax.methods.mae import MAE
from ssljax.methods.method import Method
from ssljax.report import puzzles, reconstructions
from ssljax.report.thumbnails import Sheet, Thumbnail
from ssljax.runs.trained_model import TrainedModel
from ssljax.settings.printable import shortened
from ssljax.training.validation import Evaluator

_LONGEST_NAME = 80  # characters

# A function of the model and a split draws the sheet of each method that has one.
SHEETS: dict[type[Method], Callable[[TrainedModel, str], Sheet]] = {
    Jigsaw: puzzles.sheet,
    MAE: reconstructions.sheet,
}


def draw(name: str, model: TrainedModel, split: str) -> list[Sheet]:
    """The sheets of a run.

    Args:
      name: of the run, for the title.
      model: its weights.
      split: of its data set, from which the images are taken.
    """
    method = model.run.method
    sheets = [make(model, split) for kind, make in SHEETS.items() if isinstance(method, kind)]
    if method.names_classes:
        sheets.append(classified(model, split))
    return [dataclasses.replace(sheet, title=f"{sheet.title} {name}") for sheet in sheets]


def classified(model: TrainedModel, split: str, hits: int = 8, misses: int = 8) -> Sheet:
    """The first hits and the first misses of a split, with their classes and top three guesses."""
    evaluator = Evaluator(model.run, model.run.images(split))
    found: dict[bool, list[Thumbnail]] = {True: [], False: []}
    wanted = {True: hits, False: misses}
    names = [shortened(name, _LONGEST_NAME) for name in model.class_names]
    for batch, _, outputs in evaluator.batches(model.parts):
        probabilities = np.asarray(jax.nn.softmax(outputs))
        for index in np.flatnonzero(batch["mask"]):
            top = np.argsort(-probabilities[index], kind="stable")[:3]
            truth = int(batch["label"][index])
            good = bool(top[0] == truth)
            if len(found[good]) < wanted[good]:
                guesses = ", ".join(f"{names[i]} {probabilities[index, i]:.0%}" for i in top)
                caption = f"{names[truth]}: {guesses}"
                found[good].append(Thumbnail(batch["image"][index], caption, good))
        if all(len(found[good]) == wanted[good] for good in found):
            break
    return Sheet(
        "Classified by",
        "The class: the three most likely ones. The first hits, then the first misses; the table "
        "at the top says how many are hits.",
        [[thumbnail] for thumbnail in found[True] + found[False]],
    )
