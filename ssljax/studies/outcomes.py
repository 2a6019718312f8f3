"""How the runs of a study ended, and what follows from it for further runs."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.runs.best_validation import best_validation, goodness
from ssljax.runs.saved_evaluations import SavedEvaluation
from ssljax.settings.errors import Diverged, InputError
from ssljax.studies.plan import Cell


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
      folder: of the run.
      test: the evaluation on the test split.
      validation: the rows of metrics.jsonl, one per validation.
      probes: the rows of `ssljax.probe`, of the run and of random weights.
    """

    folder: pathlib.Path
    test: SavedEvaluation
    validation: list[dict[str, Any]]
    probes: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that cannot be finished.

    Attributes:
      folder: of the run.
      error: why, in one line.
    """

    folder: pathlib.Path
    error: str


# The runs of a cell or a pretext task, by seed; None: not finished yet, in a report of parts.
Ended = Sequence[Outcome | Failure | None]


def checked(outcome: Outcome) -> Outcome:
    """The same, if it has what a study compares; validations with NaN or infinity are left out.

    Raises:
      InputError: its evaluation says for no image whether it was classified right, or a validation
        lacks a metric of the test.
      Diverged: every validation has NaN or infinity.
    """
    if outcome.test.class_names and not outcome.test.hits:
        raise InputError(f"the evaluation of {outcome.folder} has no hits")
    names = ("epoch", *outcome.test.metrics)
    for row in outcome.validation:
        for name in names:
            if type(value := row.get(name)) not in (int, float):
                raise InputError(
                    f"{outcome.folder / 'metrics.jsonl'}: the validation of step {row['step']} has "
                    f"no {name:.50}, got {value!r:.50}; remove the folder to train it again"
                )
    rows = [row for row in outcome.validation if all(math.isfinite(row[name]) for name in names)]
    if outcome.validation and not rows:
        raise Diverged(f"every validation of {outcome.folder} has NaN or infinity")
    return dataclasses.replace(outcome, validation=rows)


def choose(config: ConfigDict, ended: Mapping[str, Ended]) -> str | None:
    """The setting with the best validation metric, at its best epoch, with the first seed.

    Settings that failed with the first seed are chosen only if all did; None: all runs failed.
    """
    method = method_class(config.classification.method.name)
    first = {name: finished(runs[:1]) for name, runs in ended.items()}
    if not any(first.values()):
        first = {name: finished(runs) for name, runs in ended.items()}

    def best(name: str) -> float:
        row = best_validation(method, first[name][0].validation)
        return -math.inf if row is None else goodness(method, row)

    return max((name for name, runs in first.items() if runs), key=best, default=None)


def finished(ended: Ended) -> list[Outcome]:
    """The runs that are finished and did not fail."""
    return [run for run in ended if isinstance(run, Outcome)]


def repeated(config: ConfigDict, cell: Cell, done: Mapping[Cell, Ended]) -> set[str | None]:
    """The settings that are run with further seeds: the first one and the chosen one.

    If none was run with the first seed, as in a part of a study with one setting, it is the cell's.
    """
    settings = {
        other.setting: ended
        for other, ended in done.items()
        if (other.arm, other.fraction) == (cell.arm, cell.fraction)
    }
    return {next(iter(settings)), choose(config, settings)} if settings else {cell.setting}
