"""The runs of a study that are finished already, for a report of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ssljax.methods import method_class
from ssljax.runs import saved_evaluations
from ssljax.runs.config import resolve
from ssljax.runs.folder import check_same_run, recorded_config
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.runs.transfer import check_same_start
from ssljax.settings.errors import Diverged, InputError
from ssljax.settings.messages import say
from ssljax.studies import probing, sharing
from ssljax.studies.outcomes import Failure, Outcome, checked
from ssljax.studies.plan import PlannedRun


def find(runs: Mapping[Any, PlannedRun]) -> dict[Any, Outcome | Failure | None]:
    """How runs ended; nothing is trained, evaluated or probed.

    Args:
      runs: by any key; those that others need are named by it, and come first.

    Returns:
      None for a run that is not finished: its training, its test, or its probes.

    Raises:
      InputError: a folder has a run with other settings or one that was started from other
        weights, or a file of it is damaged.
    """
    ended: dict[Any, Outcome | Failure | None] = {}
    for key, planned in runs.items():
        if isinstance(needed := ended.get(planned.needed), Failure):
            ended[key] = sharing.without(needed, planned)
        else:
            ended[key] = _find(planned)
    return ended


def _find(planned: PlannedRun) -> Outcome | Failure | None:
    folder = planned.folder
    if error := sharing.recorded_failure(planned):
        return Failure(folder, error)
    before = recorded_config(folder)
    if before is None:
        return None
    config = resolve(planned.config, before)
    check_same_run(folder, config)
    check_same_start(folder, config)
    rows = [row for row in read_metrics(folder) if row["kind"] == "validation"]
    if not rows or rows[-1].get("epoch") != config.epochs:
        return None
    _, step = SavedCheckpoints(folder).find(method_class(config.method.name).hand_over)
    evaluation = saved_evaluations.path(folder, config.data.test_split, step)
    if not evaluation.exists():
        return None
    try:
        outcome = checked(Outcome(folder, saved_evaluations.read(evaluation), rows))
    except InputError as error:
        say(f"{error}; it is left out")
        return None
    except Diverged as error:
        return Failure(folder, str(error))
    if planned.probing is None:
        return outcome
    probed = probing.kept(planned.probing, folder, step)
    return None if probed is None else dataclasses.replace(outcome, probes=probed)
