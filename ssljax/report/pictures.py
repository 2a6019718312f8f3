"""Pictures for the page: as data URIs, and the sheet of classified ones."""

from __future__ import annotations

import base64
import dataclasses
import io

import jax
import numpy as np
from PIL import Image

from ssljax.tasks.task import Task
from ssljax.trained_model import TrainedModel
from ssljax.training.evaluation import Evaluator


@dataclasses.dataclass(frozen=True)
class Tile:
    """A picture with a caption.

    Attributes:
      pixels: uint8[H, W, 3].
      good: colours the caption; None leaves it grey.
    """

    pixels: np.ndarray
    caption: str
    good: bool | None = None


def data_uri(pixels: np.ndarray, longest: int = 160) -> str:
    """uint8[H, W, 3] as a JPEG in a `data:` URI, shrunk to at most `longest` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def to_uint8(normalized: np.ndarray, task: Task) -> np.ndarray:
    """Undoes the task's normalisation: float[..., 3] to uint8."""
    pixels = (normalized * np.asarray(task.std) + np.asarray(task.mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def classified(model: TrainedModel, split: str, hits: int = 8, misses: int = 8) -> list[Tile]:
    """The first hits and the first misses of a split, with their truth and top three guesses."""
    evaluator = Evaluator(model.run, model.run.pictures(split))
    found: dict[bool, list[Tile]] = {True: [], False: []}
    wanted = {True: hits, False: misses}
    names = model.class_names
    for batch, _, outputs in evaluator.batches(model.params):
        probabilities = np.asarray(jax.nn.softmax(outputs))
        for index in np.flatnonzero(batch["mask"]):
            top = np.argsort(-probabilities[index], kind="stable")[:3]
            truth = int(batch["label"][index])
            good = bool(top[0] == truth)
            if len(found[good]) < wanted[good]:
                guesses = ", ".join(f"{names[i]} {probabilities[index, i]:.0%}" for i in top)
                caption = f"{names[truth]}: {guesses}"
                found[good].append(Tile(batch["image"][index], caption, good))
        if all(len(found[good]) == wanted[good] for good in found):
            break
    return found[True] + found[False]
