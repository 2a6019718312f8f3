"""The results that `python -m ssljax.evaluate` has written into a run folder."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any

from ssljax.files import storage
from ssljax.settings.errors import InputError
from ssljax.settings.printable import quoted


@dataclasses.dataclass(frozen=True)
class SavedEvaluation:
    """What a file of results says.

    Attributes:
      dataset: TFDS's name of the data set.
      split: of the data set.
      step: of the checkpoint.
      examples: in the split.
      metrics: by name.
      standard_error: of the metrics.
      chance: what guessing without looking reaches, for some of the metrics.
    """

    dataset: str
    split: str
    step: int
    examples: int
    metrics: dict[str, float]
    standard_error: dict[str, float]
    chance: dict[str, float]

    def command(self, own_dataset: str) -> str:
        """The command that makes the file again, on the run folder RUN.

        Args:
          own_dataset: the run's, which the command need not name.
        """
        flags = [f"--split={self.split}", f"--checkpoint={self.step}"]
        flags += [f"--dataset={self.dataset}"] * (self.dataset != own_dataset)
        return " ".join(["python -m ssljax.evaluate --workdir=RUN", *map(quoted, flags)])


def read_all(workdir: str | pathlib.Path) -> list[SavedEvaluation]:
    """The results in RUN/evaluation, by data set, split and step.

    Raises:
      InputError: a file is damaged.
    """
    folder = storage.path(workdir, "RUN") / "evaluation"
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return sorted(map(_read, files), key=lambda each: (each.dataset, each.split, each.step))


def _read(file: pathlib.Path) -> SavedEvaluation:
    try:
        values = json.loads(file.read_text("utf-8"))
        return SavedEvaluation(
            _of(str, values["dataset"]),
            _of(str, values["split"]),
            _of(int, values["step"]),
            _of(int, values["examples"]),
            *(numbers(values[key]) for key in ("metrics", "standard_error", "chance")),
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{file} cannot be read as a result of `python -m ssljax.evaluate` ({said}); "
            "evaluate again, or remove it"
        ) from error


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r:.50}")
    return value


def numbers(values: Any) -> dict[str, float]:
    """The finite numbers of a dict.

    Raises:
      TypeError: it is no dict.
    """
    return {
        name: float(value)
        for name, value in _of(dict, values).items()
        if type(value) in (int, float) and math.isfinite(value)
    }
