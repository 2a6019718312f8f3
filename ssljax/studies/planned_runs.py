"""Finishes one run of a study: training, evaluation and probes, as far as they are not done yet."""

from __future__ import annotations

import dataclasses
import pathlib

from ml_collections import ConfigDict

from ssljax.evaluate import evaluate, save
from ssljax.probe import probe
from ssljax.runs import saved_evaluations
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say
from ssljax.studies import probing
from ssljax.studies.outcomes import Outcome, checked
from ssljax.studies.plan import PlannedRun
from ssljax.train import train


def finish(planned: PlannedRun) -> Outcome:
    """Trains, evaluates and probes a run."""
    outcome = train_and_evaluate(planned.config, planned.folder)
    if planned.probing is None:
        return outcome
    step, seed = outcome.test.step, planned.config.seed
    rows = probing.finish(planned.probing, probe, planned.folder, step, seed)
    return dataclasses.replace(outcome, probes=rows)


def train_and_evaluate(config: ConfigDict, folder: pathlib.Path) -> Outcome:
    """Trains and evaluates a run."""
    method = train(config, folder).method
    _, step = SavedCheckpoints(folder).find(method.hand_over)
    done = saved_evaluations.path(folder, config.data.test_split, step)
    rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
    if done.exists():
        try:
            return checked(Outcome(folder, saved_evaluations.read(done), rows))
        except InputError as error:
            say(f"{error}; it is evaluated again")
    save(evaluate(folder), folder)
    return checked(Outcome(folder, saved_evaluations.read(done), rows))
