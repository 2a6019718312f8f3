"""The results that `python -m ssljax.evaluate` has written into a run folder."""

from __future__ import annotations

import hashlib
import math
import pathlib
from typing import Annotated, Any

import msgspec

from ssljax.files import storage, untrusted
from ssljax.files.packed_bits import unpacked
from ssljax.settings.errors import InputError
from ssljax.settings.printable import quoted

_LONGEST_NAME = 150  # bytes of a split in the name of a file, which may have 255
_Step = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2**40)]


class SavedEvaluation(msgspec.Struct, frozen=True):
    """What a file of results says.

    Attributes:
      dataset: TFDS's name of the data set.
      split: of the data set.
      checkpoint: `best`, `latest` or a step.
      step: of the checkpoint.
      examples: in the split.
      metrics: by name.
      standard_error: of the metrics; those of whole batches have none.
      chance: what guessing without looking reaches, for some of the metrics.
      class_names: of a classification.
      confusion: images by true and by predicted class.
      hits: which images were classified right, see `ssljax.files.packed_bits.packed`.
    """

    dataset: str
    split: str
    checkpoint: str
    step: _Step
    examples: _Count
    metrics: dict[str, float]
    standard_error: dict[str, float]
    chance: dict[str, float]
    class_names: list[str] = []
    confusion: list[list[int]] = []
    hits: str = ""

    def __post_init__(self) -> None:
        """Checks what types do not say."""
        for name in ("metrics", "standard_error", "chance"):
            for key, value in getattr(self, name).items():
                if not math.isfinite(value):
                    raise ValueError(f"{name}.{key:.50} must be finite, got {value}")
        if extra := self.standard_error.keys() - self.metrics.keys():
            raise ValueError(f"standard_error.{min(extra):.50} is of no metric")
        classes = len(self.class_names)
        if [len(row) for row in self.confusion] != [classes] * classes:
            raise ValueError(f"confusion must be {classes}×{classes}, as there are class_names")
        if self.confusion and sum(map(sum, self.confusion)) != self.examples:
            raise ValueError(f"confusion must have {self.examples} examples in all")
        if self.hits:
            try:
                unpacked(self.hits, self.examples)
            except ValueError as error:
                raise ValueError(f"hits: {error}") from error

    def command(self, own_dataset: str) -> str:
        """The command that makes the file again, on the run folder RUN.

        Args:
          own_dataset: the run's, which the command need not name.
        """
        flags = [f"--split={self.split}", f"--checkpoint={self.step}"]
        flags += [f"--dataset={self.dataset}"] * (self.dataset != own_dataset)
        return " ".join(["python -m ssljax.evaluate --workdir=RUN", *map(quoted, flags)])


def path(workdir: str | pathlib.Path, split: str, step: int, dataset: str = "") -> pathlib.Path:
    """Where a result is written: `evaluation/[DATASET-]SPLIT-step-STEP.json`.

    Args:
      workdir: the run folder.
      split: such as `images[80%:90%]`.
      step: of the checkpoint.
      dataset: empty if it is the run's own.
    """
    what = f"{dataset}-{split}" if dataset else split
    name = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in what)
    if len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(what.encode()).hexdigest()[:16]
        name = name.encode()[:_LONGEST_NAME].decode(errors="ignore") + "-" + digest
    return storage.path(workdir, "--workdir") / "evaluation" / f"{name}-step-{step}.json"


def read_all(workdir: str | pathlib.Path) -> list[SavedEvaluation]:
    """The results in RUN/evaluation, by data set, split and step.

    Raises:
      InputError: a file is damaged.
    """
    folder = storage.path(workdir, "RUN") / "evaluation"
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return sorted(map(read, files), key=lambda each: (each.dataset, each.split, each.step))


def read(file: pathlib.Path) -> SavedEvaluation:
    """The results in a file.

    Raises:
      InputError: it is damaged.
    """
    try:
        return untrusted.read_json(file, SavedEvaluation, "evaluate again, or remove it")
    except FileNotFoundError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def numbers(values: dict[str, Any]) -> dict[str, float]:
    """The finite numbers among some values."""
    return {
        name: float(value)
        for name, value in values.items()
        if type(value) in (int, float) and math.isfinite(value)
    }
